"""The trainings of a scaling sweep."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import small

from hyena.data import PrepareConfig, prepare, read_manifest
from hyena.files.records import to_plain
from hyena.model import LanguageModel, ModelConfig
from hyena.scaling import Cell, Family, ScalingConfig, Size, make_plan
from hyena.scaling.plan import outside_embedding, read_plan, write_plan
from hyena.training import TrainConfig

CHOSEN = {"Hyena": 1, "attention": 0}


def models(config: ScalingConfig) -> dict[tuple[str, str], LanguageModel]:
    """By family and size."""
    cells = [cell for cell in make_plan(config, CHOSEN) if cell.phase == "grid"]
    return {
        (cell.family, str(cell.size)): LanguageModel(cell.train.model, device="meta")
        for cell in cells
    }


def places(cells: list[Cell]) -> list[tuple[Any, ...]]:
    return [
        (cell.phase, cell.family, str(cell.size), cell.tokens_per_parameter, cell.trial, cell.seed)
        for cell in cells
    ]


def test_trials_at_the_smallest_size_then_the_chosen_ones_everywhere(data: Path) -> None:
    config = small(data, Path("out"), seeds=[3, 4])
    trials = [
        ("tune", family, "8 x 1", 0.2, trial, 3)
        for family in ("Hyena", "attention")
        for trial in (0, 1)
    ]
    assert places(make_plan(config, {})) == trials
    grid = [
        ("grid", family, size, budget, CHOSEN[family], seed)
        for size in ("8 x 1", "8 x 2")
        for family in ("Hyena", "attention")
        for budget in (0.25, 0.5)
        for seed in (3, 4)
    ]
    cells = make_plan(config, CHOSEN)
    assert places(cells) == trials + grid
    assert len({cell.folder for cell in cells}) == len(cells)
    assert {cell.folder.parent for cell in cells} == {Path("out/cells")}
    assert all(cell.train.out == cell.folder / "run" for cell in cells)
    first = cells[0]
    assert re.fullmatch(r"tune_Hyena_8x1_0.2_trial-1_seed-3_[0-9a-f]{8}", first.folder.name)
    assert str(first) == "Hyena 8 x 1, 0.2 tokens a parameter, trial 1, seed 3"
    assert str(cells[-1]) == "attention 8 x 2, 0.5 tokens a parameter, seed 4"


def test_a_training_has_the_options_of_base_family_trial_and_size(data: Path) -> None:
    config = small(data, Path("out"))
    config.base["evaluation"]["every"] = 7
    config.base["optimizer.lr"] = 0.5
    cell = make_plan(config, CHOSEN)[-1]
    train = cell.train
    assert (train.model.width, train.model.layers, train.model.mixers) == (8, 2, "attention")
    assert (train.model.vocab_size, train.model.max_length, train.batch) == (257, 16, 4)
    assert (train.optimizer.lr, train.data, train.seed, train.resume) == (1e-2, data, 0, True)
    assert cell.tokens == train.steps * 4 * 16
    assert train.checkpoint.every == train.steps // 10
    assert (train.checkpoint.best, train.checkpoint.keep, train.log_every) == (False, 1, 1)
    assert train.evaluation.every == 7
    before = make_plan(small(data, Path("out")), CHOSEN)[-1].train
    assert before.evaluation.every == before.steps // 10


def test_families_with_one_trial_need_no_tuning(data: Path) -> None:
    config = small(data, Path("out"), families=[Family("a", {"model.mixers": "hyena"})])
    assert {cell.phase for cell in make_plan(config, {})} == {"grid"}


def test_all_families_have_the_first_one_s_parameters_and_tokens(data: Path) -> None:
    config = small(data, Path("out"), sizes=[Size(8, 1), Size(32, 3)])
    found = models(config)
    for size in ("8 x 1", "32 x 3"):
        counts = [outside_embedding(found[family, size]) for family in CHOSEN]
        assert counts[1] == pytest.approx(counts[0], rel=0.02)
        assert found["Hyena", size].config.hidden == 16
        assert found["attention", size].config.hidden > 16
    tokens: dict[tuple[str, float], set[int]] = {}
    for cell in make_plan(config, CHOSEN):
        if cell.phase == "grid":
            tokens.setdefault((str(cell.size), cell.tokens_per_parameter), set()).add(cell.tokens)
    assert all(len(of_families) == 1 for of_families in tokens.values())
    parameters = outside_embedding(found["Hyena", "32 x 3"])
    assert tokens["32 x 3", 0.5] == {round(0.5 * parameters / 64) * 64}
    config.equal_parameters = False
    assert models(config)["attention", "32 x 3"].config.hidden == 16


def test_the_parameters_outside_the_embedding() -> None:
    config = ModelConfig(vocab_size=10, vocab_multiple=8, width=8, layers=1, max_length=32)
    changed = replace(config, positions="learned"), replace(config, tied=False)
    model, *others = (LanguageModel(c, device="meta") for c in (config, *changed))
    assert model.parameter_count() - outside_embedding(model) == 16 * 8
    assert {outside_embedding(other) for other in others} == {outside_embedding(model)}


def test_seeds_and_budgets_may_be_fewer(data: Path) -> None:
    config = small(data, Path("out"), seeds=[5, 6, 7], sizes=[Size(8, 1), Size(8, 2, seeds=1)])
    config.families[1].budgets, config.families[1].seeds = "top", 2
    grid = [place[1:] for place in places(make_plan(config, CHOSEN)) if place[0] == "grid"]
    assert grid == [
        *(("Hyena", "8 x 1", budget, 1, seed) for budget in (0.25, 0.5) for seed in (5, 6, 7)),
        *(("attention", "8 x 1", 0.5, 0, seed) for seed in (5, 6)),
        *(("Hyena", "8 x 2", budget, 1, 5) for budget in (0.25, 0.5)),
        ("attention", "8 x 2", 0.5, 0, 5),
    ]


def test_the_text_is_read_so_often_at_most_and_equal_budgets_are_one(data: Path) -> None:
    tokens = read_manifest(data).splits["train"].tokens
    config = small(data, Path("out"), most_epochs=2, tokens_per_parameter=[0.01, 50, 100])
    config.families[1].budgets = "top"
    cells = [cell for cell in make_plan(config, CHOSEN) if cell.phase == "grid"]
    budgets = [(cell.family, cell.tokens_per_parameter) for cell in cells[:3]]
    assert budgets == [("Hyena", 0.01), ("Hyena", 50), ("attention", 50)]
    assert cells[0].train.steps == 1
    assert 2 * tokens - 64 < cells[1].tokens <= 2 * tokens


def test_a_folder_belongs_to_a_training_however_the_sweep_is_written(
    data: Path, tmp_path: Path
) -> None:
    config = small(data, Path("out"))
    before = make_plan(config, CHOSEN)
    config.base = {"model.vocab_size": 257, "model.max_length": 16, "model": {"mlp_width": 16}}
    config.base.update({"batch": 4, "evaluation.batches": 2, "tensorboard": True})
    config.jobs, config.sizes = 2, config.sizes[::-1]
    assert [c.folder for c in make_plan(config, CHOSEN)] == [c.folder for c in before]
    config.base["clip"] = 0.5
    assert not {c.folder for c in make_plan(config, CHOSEN)} & {c.folder for c in before}
    (tmp_path / "texts").mkdir()
    for i in range(9):
        (tmp_path / "texts" / f"{i}.txt").write_text("quite another text " * 40)
    source, other = str(tmp_path / "texts"), tmp_path / "data"
    prepare(PrepareConfig(source=source, out=other, validation=0.2, test=0.2))
    config = small(other, Path("out"))
    assert not {c.folder for c in make_plan(config, CHOSEN)} & {c.folder for c in before}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"families": [Family("a", {"model.widht": 1})]},
            "families: a at 8 x 2: ModelConfig has no field 'widht'; it has vocab_size",
        ),
        (
            {"families": [Family("a"), Family("b", {"optimizer.lr": "x"})]},
            "families: b, trial 1 at 8 x 1: lr: expected float, got 'x'",
        ),
        (
            {"families": [Family("a"), Family("b", {"model.mixers": "attention"}, [{"clip": -1}])]},
            "families: b, trial 1 at 8 x 1: clip: expected a positive number, got -1",
        ),
        (
            {"families": [Family("a", {"model": 3}), Family("b")]},
            "families: a at 8 x 2: model.width is an option of model, which is given as 3",
        ),
        (
            {"families": [Family("a", trials=[{}, {"clip": 1.0}])]},
            "families: a: trials 1 and 2 have the same options; leave out either",
        ),
        (
            {"families": [Family("a+b"), Family("a-b")]},
            "families: a.b and a-b have the same options, and names that give the same folder",
        ),
        (
            {"families": [Family("a", {"model.vocab_size": 9})]},
            "families: a, trial 1 at 8 x 1: model.vocab_size is 9, but the tokens in .* are of 257",
        ),
    ],
)
def test_every_training_is_checked_before_any_runs(
    data: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        make_plan(small(data, Path("out"), **changes), {})
    assert "\n" not in str(refused.value)


def test_parameters_that_no_mlp_can_give_are_refused(data: Path) -> None:
    tiny = {"model.mlp_width": 1, "model.filter": {"width": 1, "emb_dim": 3, "depth": 2}}
    config = small(data, Path("out"), families=[Family("a", tiny), Family("b")])
    with pytest.raises(
        ValueError,
        match=r"families: b, trial 1 at 8 x 1: equal_parameters: the model has [\d,]+ parameters "
        r"outside the embedding, and could not be brought to [\d,]+ by the width of its MLP",
    ):
        make_plan(config, {})


def test_data_without_validation_or_test_are_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for i in range(9):
        (tmp_path / "texts" / f"{i}.txt").write_text("a text " * 40)
    for split, other in (("validation", "test"), ("test", "validation")):
        out = tmp_path / split
        given = {"source": str(tmp_path / "texts"), "out": out, split: 0.0, other: 0.2}
        prepare(PrepareConfig(**given))
        with pytest.raises(ValueError, match=f"has no {split} documents to .* by; prepare it"):
            make_plan(small(out, Path("out")), {})
    with pytest.raises(FileNotFoundError, match="token files were asked for in absent"):
        make_plan(small(Path("absent"), Path("out")), {})


def test_the_plan_can_be_read_back(data: Path, tmp_path: Path) -> None:
    config = small(data, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"holds no scaling sweep: it has no scaling\.json"):
        read_plan(tmp_path)
    cells = make_plan(config, CHOSEN)
    write_plan(config, CHOSEN, cells, ["size 8 x 2 is left out"])
    planned = read_plan(tmp_path)
    assert planned.folders == [cell.folder.name for cell in cells]
    assert (planned.chosen, planned.left_out) == (CHOSEN, ["size 8 x 2 is left out"])
    assert planned.config["tokens_per_parameter"] == [0.5, 0.25]
    file = tmp_path / "scaling.json"
    file.write_text(file.read_text().replace("size 8 x 2", "size 8 x 3"))
    with pytest.raises(ValueError, match=r"scaling\.json is damaged: its SHA-256 .*; run the sw"):
        read_plan(tmp_path)
    file.write_text('{"format_version": 1}')
    with pytest.raises(ValueError, match=r"scaling\.json is damaged: .*; run the sweep again"):
        read_plan(tmp_path)


def test_a_later_field_of_the_model_leaves_the_folders_as_they_are(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folders() -> list[Path]:
        return [cell.folder for cell in make_plan(small(data, Path("out")), CHOSEN)]

    def later(value: object) -> Any:
        plain = to_plain(value)
        if isinstance(value, ModelConfig):
            plain["later"] = 1
        elif isinstance(value, TrainConfig):
            plain["model"]["later"] = 1
        return plain

    before = folders()
    monkeypatch.setattr("hyena.scaling.plan.to_plain", later)
    assert folders() == before
