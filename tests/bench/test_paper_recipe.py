"""`benchmarks/paper_recipe.py`: what it changes of the paper's recipes, and what it measures."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import paper_recipe

from hyena.data import PrepareConfig, prepare
from hyena.files.records import flatten, from_plain, to_plain
from hyena.model import FilterConfig
from hyena.training import TrainConfig

DOCS = Path(__file__).parents[2] / "docs"
shipped = paper_recipe.recipe


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "texts").mkdir()
    for i in range(4):
        (tmp_path / "texts" / f"{i}.txt").write_text(f"Text number {i}. " + "It goes on. " * 40)
    source, out = str(tmp_path / "texts"), tmp_path / "data"
    prepare(PrepareConfig(source=source, out=out, validation=0.25, test=0))
    return out


def tiny(name: str) -> TrainConfig:
    """The shipped recipe with a model that trains in a moment, of bytes."""
    config = shipped(name)
    model = replace(
        config.model,
        vocab_size=257,
        width=8,
        layers=2,
        mlp_width=8,
        max_length=16,
        filter=FilterConfig(width=4, emb_dim=3, train_encoding=True),
    )
    return replace(config, model=model, accelerator="cpu")


@pytest.mark.parametrize(
    ("name", "steps", "batch", "accumulate"),
    [("wikitext103", 22500, 512, 32), ("pile", 10000, 256, 16)],
)
def test_only_what_is_said_is_changed(name: str, steps: int, batch: int, accumulate: int) -> None:
    before = shipped(name)
    after = paper_recipe.shortened(before, Path("other"), 50)
    assert sorted(paper_recipe.changed(before, after)) == sorted(
        [
            f"data: {before.data} → other",
            f"steps: {steps} → 50",
            f"batch: {batch} → 8",
            f"accumulate: {accumulate} → 1",
            f"schedule.warmup_steps: {steps // 100} → 1",
            f"evaluation.every: {before.evaluation.every} → 0",
            "checkpoint.every: 500 → 0",
        ]
    )
    assert paper_recipe.shortened(before, Path("x"), 1000).schedule.warmup_steps == 10


def test_each_recipe_runs_in_both_precisions_and_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[TrainConfig] = []

    def here(config: TrainConfig) -> dict[str, Any]:
        asked.append(config)
        plain = json.loads(json.dumps(to_plain(config)))
        return json.loads(json.dumps(paper_recipe.run_one(from_plain(TrainConfig, plain))))

    monkeypatch.setattr(paper_recipe, "recipe", tiny)
    monkeypatch.setattr(paper_recipe, "in_process", here)
    out = tmp_path / "out"
    words = ["--data", str(data), "--out", str(out), "--steps", "12"]
    paper_recipe.main(words)
    printed = capsys.readouterr().out
    assert [(config.precision, config.stop_after) for config in asked] == [
        ("bf16-mixed", None),
        ("32", 10),
    ] * 2
    document = json.loads((out / "results.json").read_text())
    runs = document["runs"]
    assert list(runs) == [
        f"{name} {precision}"
        for name in ("wikitext103", "pile")
        for precision in ("bf16-mixed", "32")
    ]
    for key, run in runs.items():
        assert len(run["losses"]) == (12 if key.endswith("mixed") else 10)
        assert len(run["gradient_norms"]) == len(run["learning_rates"]) == len(run["losses"])
        assert run["tokens_per_second"] > 0
        assert run["peak_bytes"] > 2**20
        assert f"{key}: {'; '.join(run['changes'])}" in printed
        assert "batch: " in "".join(run["changes"])
    assert "precision: bf16-mixed → 32" in runs["pile 32"]["changes"]
    # The schedule is the same, and so are weights and windows: only the arithmetic differs.
    for name in ("wikitext103", "pile"):
        one, other = runs[f"{name} bf16-mixed"], runs[f"{name} 32"]
        assert one["learning_rates"][:10] == other["learning_rates"]
        assert 0 < paper_recipe.compared(one, other) < 0.05
    assert len(document["differences"]) == len(paper_recipe.DIFFERENCES)
    page = (out / "table.md").read_text()
    assert "pile: over the first 10 steps the losses in bfloat16 and in float32 are within" in page
    assert paper_recipe.differences() in page
    assert [path.name for path in out.iterdir() if path.is_dir()] == []

    paper_recipe.main(words)
    assert len(asked) == 4
    assert "pile 32 is there already" in capsys.readouterr().out
    paper_recipe.main([*words[:-1], "11", "--recipes", "pile"])
    assert len(asked) == 6


def test_a_process_of_its_own_answers(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = paper_recipe.shortened(tiny("pile"), data, 3)
    run = paper_recipe.in_process(replace(config, out=tmp_path / "run"))
    assert len(run["losses"]) == 3
    with pytest.raises(RuntimeError, match="the process of run ended: 1"):
        paper_recipe.in_process(replace(config, out=tmp_path / "run", data=tmp_path / "absent"))


def test_what_is_said_of_a_recipe_is_in_its_configuration() -> None:
    for row in paper_recipe.DIFFERENCES:
        names = ("wikitext103", "pile") if row.recipe == "both" else (row.recipe,)
        for name in names:
            assert name in paper_recipe.RECIPES
            plain = flatten(to_plain(shipped(name)))
            assert row.option is None or plain[row.option] == row.value, row.what
    assert sum(row.option is not None for row in paper_recipe.DIFFERENCES) >= 6


def test_the_manual_has_the_differences() -> None:
    assert paper_recipe.differences() in (DOCS / "recipe.md").read_text(encoding="utf-8")
