"""`hyena scaling run` as a user meets it, and the sweeps that are shipped."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from small_sweeps import small

from hyena.cli import main
from hyena.cli.options import parse
from hyena.data import PrepareConfig, prepare
from hyena.experiments.jobs import SweepEnd
from hyena.files.records import flatten, to_plain
from hyena.model import LanguageModel
from hyena.scaling import Cell, ScalingConfig, make_plan, read_results
from hyena.scaling.plan import outside_embedding
from hyena.training import train

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "configs" / "scaling"
SHIPPED = sorted(FOLDER.glob("*.yaml"))
Output = pytest.CaptureFixture[str]


@pytest.fixture
def file(data: Path, tmp_path: Path) -> Path:
    """A sweep's file with a folder beside it."""
    path = tmp_path / "sweep.yaml"
    config = small(data, tmp_path / "out", tokens_per_parameter=[0.25])
    path.write_text(yaml.safe_dump(to_plain(config)))
    return path


@pytest.mark.usefixtures("here")
def test_run_prints_the_plan_and_trains(file: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["scaling", "run", str(file), "--plan", "true"]) == 0
    out = capsys.readouterr().out
    assert "| tune | Hyena | 8 x 1 | 2 | " in out
    assert out.splitlines()[-1] == "8 trainings: 0.0 h"
    assert main(["scaling", "run", str(file), "--base.clip", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "[4/4] attention 8 x 2, 0.25 tokens a parameter, seed 0: " in out
    assert "## Hyena against attention" in out
    assert out.endswith(f"\n{tmp_path}/out/table.md\n")
    results = read_results(tmp_path / "out")
    assert [result.settings["clip"] for result in results] == [0.5] * 8


@pytest.mark.parametrize(
    ("end", "code"), [(SweepEnd(1, 0), 0), (SweepEnd(1, 1), 1), (SweepEnd(1, 1, 15), 143)]
)
def test_the_exit_code_says_what_became_of_it(
    end: SweepEnd, code: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.cli.scaling.run.run_scaling", lambda config, progress: end)
    monkeypatch.setattr("hyena.cli.scaling.run.write_table", lambda out: file)
    assert main(["scaling", "run", str(file)]) == code


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required and not given: --out, --data, --families, --sizes"),
        (["--jobs", "0"], "jobs: expected at least 1, got 0"),
        (["--sizes", "[{width: 8}]"], "sizes: required and not given: layers"),
        (["--base.model.widht", "8"], "ModelConfig has no field 'widht'"),
        (["--data", "absent"], "token files were asked for in absent, but it does not exist"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, file: Path, capsys: Output, tmp_path: Path
) -> None:
    if not words:
        file = tmp_path / "empty.yaml"
        file.write_text("jobs: 1\n")
    assert main(["scaling", "run", str(file), *words]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared bytes of longer documents."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "texts").mkdir()
    for i in range(10):
        (folder / "texts" / f"{i}.txt").write_text(f"Text number {i}. " + "It goes on. " * 300)
    source = str(folder / "texts")
    prepare(PrepareConfig(source=source, out=folder / "data", validation=0.2, test=0.2))
    return folder / "data"


def plan_of(path: Path, data: Path, out: Path) -> list[Cell]:
    config = parse("scaling run", "run", ScalingConfig, "config", [str(path), f"--data={data}"])
    assert config is not None
    config.out, config.most_epochs = out, 1e6
    return make_plan(config, {family.name: 0 for family in config.families})


def parameters(cell: Cell) -> int:
    return outside_embedding(LanguageModel(cell.train.model, device="meta"))


@pytest.mark.parametrize(
    ("sweep", "length", "others", "trainings"),
    [
        ("english", 2048, ["Hyena of order 3", "hybrid"], [6, 6, 3, 3]),
        ("english-8192", 8192, [], [6, 6]),
    ],
)
def test_the_shipped_comparisons_are_fair(
    sweep: str, length: int, others: list[str], trainings: list[int], texts: Path, tmp_path: Path
) -> None:
    cells = plan_of(FOLDER / f"{sweep}.yaml", texts, tmp_path)
    tuned = [cell for cell in cells if cell.phase == "tune"]
    assert [cell.family for cell in tuned] == ["Hyena"] * 6 + ["Transformer"] * 6
    families = ["Hyena", "Transformer", *others]
    grid = [cell for cell in cells if cell.phase == "grid"]
    sizes = list(dict.fromkeys(str(cell.size) for cell in grid))
    assert len(sizes) == len(trainings)
    for size in sizes:
        counts = {cell.family: parameters(cell) for cell in grid if str(cell.size) == size}
        assert set(counts) == set(families)
        assert 0.4e6 < counts["Hyena"] < 3.4e6
        for count in counts.values():
            assert count == pytest.approx(counts["Hyena"], rel=0.02)
    assert {cell.train.window() for cell in cells} == {length}
    assert {cell.train.tokens_per_step() for cell in cells} == {8192}
    numbers = {
        name: [sum((c.family, str(c.size)) == (name, size) for c in grid) for size in sizes]
        for name in families
    }
    assert numbers["Hyena"] == numbers["Transformer"] == trainings
    assert all(numbers[name] == [1, 1, 1, 1] for name in others)


def test_the_longer_sweep_has_the_same_text_families_trials_and_tokens() -> None:
    short, long = (
        yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
        for name in ("english", "english-8192")
    )
    assert long["sizes"] == short["sizes"][:2]
    assert long["families"] == short["families"][:2]
    for name in ("data", "tokens_per_parameter", "tuning_tokens_per_parameter", "seeds"):
        assert long[name] == short[name]
    for name in ("schedule", "evaluation"):
        assert long["base"][name] == short["base"][name]


def test_each_change_of_the_shipped_recipe_is_one_thing(texts: Path, tmp_path: Path) -> None:
    plan = plan_of(FOLDER / "recipe.yaml", texts, tmp_path)
    base, *changed = (cell for cell in plan if (cell.phase, cell.seed) == ("grid", 0))
    assert base.family == "the tuned model"
    assert str(base.size) == "128 x 4"  # the second of english.yaml
    before, factors = flatten(to_plain(base.train)), set()
    for cell in changed:
        now = flatten(to_plain(cell.train))
        apart = {name for name, value in before.items() if now[name] != value}
        apart -= {"out", "steps", "evaluation.every", "checkpoint.every"}
        assert 1 <= len(apart) <= 2, cell.family
        assert cell.tokens == pytest.approx(base.tokens, rel=0.01), cell.family
        factors |= apart
    assert factors >= {
        *("model.initial", "model.filter.sine_freq", "optimizer.filter_lr", "model.filter.window"),
        *("model.filter.fast_decay", "model.order", "batch", "schedule.warmup_steps"),
        "model.dropout",
    }
    counts = {cell.family: parameters(cell) for cell in (base, *changed)}
    same = counts["order 3, as many parameters"]
    assert same == pytest.approx(counts["the tuned model"], rel=0.01)
    assert counts["order 3"] > 1.05 * counts["the tuned model"]


@pytest.mark.parametrize(
    ("sweep", "number"), [("english", 12), ("english-8192", 12), ("recipe", 6 + 1 + 22)]
)
def test_every_trial_and_change_of_a_shipped_sweep_trains(
    sweep: str, number: int, texts: Path, tmp_path: Path
) -> None:
    trained = set()
    for cell in plan_of(FOLDER / f"{sweep}.yaml", texts, tmp_path):
        which = cell.phase, cell.family, cell.trial
        if which in trained or (cell.phase == "grid" and sweep != "recipe"):
            continue
        config = cell.train
        filter = replace(config.model.filter, width=8)
        config.model = replace(
            config.model, width=32, mlp_width=8, max_length=16, filter=filter, layers=4
        )
        config.schedule.warmup_steps, config.steps, config.accelerator = 0, 1, "cpu"
        config.evaluation.every = 0
        assert train(config).step == 1
        trained.add(which)
    assert len(trained) == number


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_file_says_how_it_is_run(path: Path) -> None:
    assert f"#   hyena scaling run configs/scaling/{path.name}\n" in path.read_text()
