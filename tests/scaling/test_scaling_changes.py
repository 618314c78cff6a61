"""Changes to a family, one at a time: which trainings they are, and what their table says."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_sweeps import small
from test_scaling_table import after, rows, trained, training

from hyena.files.records import write_record
from hyena.model import LanguageModel
from hyena.scaling import Bits, Change, Result, ScalingConfig, make_plan, read_results, run_scaling
from hyena.scaling.changes import changes
from hyena.scaling.grid import lay_out
from hyena.scaling.plan import FILE as PLAN
from hyena.scaling.plan import FORMAT_VERSION, Planned, outside_embedding
from hyena.scaling.table import table, write_table

MILLION = 1_000_000


def of_one_family(data: Path, out: Path, *found: Change, **options: Any) -> ScalingConfig:
    """The small sweep without its second family."""
    config = small(data, out, **options)
    config.families = config.families[:1]
    return replace(config, changes=list(found))


def test_a_change_wins_over_the_chosen_trial_and_nothing_else_changes(data: Path) -> None:
    config = of_one_family(
        data,
        Path("out"),
        Change("higher", {"optimizer": {"lr": 0.5}}),
        Change("with dropout", {"model.dropout": 0.25}),
        seeds=[3, 4],
    )
    assert {cell.phase for cell in make_plan(config, {})} == {"tune"}  # none is chosen yet
    cells = [cell for cell in make_plan(config, {"Hyena": 1}) if cell.phase == "grid"]
    assert [cell.family for cell in cells[:12:4]] == ["Hyena", "higher", "with dropout"]
    base, higher, dropped = (
        [cell for cell in cells if cell.family == name]
        for name in ("Hyena", "higher", "with dropout")
    )
    assert len(base) == len(higher) == len(dropped) == 8
    assert len({cell.folder for cell in cells}) == len(cells)
    for one, other, third in zip(base, higher, dropped, strict=True):
        assert one.train.optimizer.lr == third.train.optimizer.lr == 3e-3
        assert other.train.optimizer.lr == 0.5
        assert (one.seed, one.tokens) == (other.seed, other.tokens) == (third.seed, third.tokens)
        assert replace(third.train.model, dropout=0.0) == replace(
            one.train.model, mlp_width=third.train.model.mlp_width
        )


def test_changed_models_have_as_many_parameters_or_those_of_their_own(data: Path) -> None:
    change = Change("order 3", {"model.order": 3})
    config = of_one_family(data, Path("out"), change)
    config.base["model"]["mlp_width"] = 64
    for equal in (True, False):
        config.equal_parameters = equal
        cells = [cell for cell in make_plan(config, {"Hyena": 0}) if cell.phase == "grid"]
        counts = {
            cell.family: outside_embedding(LanguageModel(cell.train.model, device="meta"))
            for cell in cells[:4]
        }
        assert (counts["order 3"] < 1.02 * counts["Hyena"]) == equal


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (Change("Hyena", {"clip": 2.0}), "changes: 'Hyena' is the name of two; they, and families"),
        (Change("none", {}), "changes: none has no settings; say what is changed"),
        (Change("steps", {"steps": 3}), "changes: steps: steps is set by the sweep itself"),
        (
            Change("wide", {"model.mlp_width": 3}),
            "changes: wide: model.mlp_width is made to fit the parameters of Hyena; leave it out",
        ),
    ],
)
def test_changes_that_make_no_sense_are_refused(found: Change, message: str, data: Path) -> None:
    with pytest.raises(ValueError, match=message):
        of_one_family(data, Path("out"), found)


def test_a_change_that_no_model_takes_is_named(data: Path) -> None:
    config = of_one_family(data, Path("out"), Change("wrong", {"model.widht": 1}))
    with pytest.raises(ValueError, match="changes: wrong, trial 1 at 8 x 1: ModelConfig has no f"):
        make_plan(config, {"Hyena": 0})


def of(name: str, nats: float, **fields: Any) -> Result:
    """A training of a change, after a million tokens."""
    bits = Bits(1.0, nats, 10, 20, 3)
    result = replace(training("Hyena", MILLION), family=name, validation=bits, test=bits)
    return replace(result, **fields)


def test_the_table_says_what_each_change_does_by_equal_seeds() -> None:
    base = [of("base", 3.0, seed=0, seconds=10.0), of("base", 3.1, seed=1, seconds=10.0)]
    better = [of("better", 2.98, seed=0, seconds=5.0), of("better", 3.05, seed=1, seconds=5.0)]
    mixed = [of("mixed", 3.03, seed=0), of("mixed", 3.08, seed=1, test=None)]
    alone = [of("alone", 2.0, seed=7)]
    grid = lay_out([*base, *better, *mixed, *alone])
    names = ["mixed", "better", "not yet", "alone"]
    head, *found = rows(
        "\n\n".join(changes(grid, "base", names)).splitlines(), "## Changes to base"
    )
    assert head[:6] == ["", "size", "tokens", "parameters", "perplexity", "change"]
    assert [row[0] for row in found] == ["base", "mixed", "better", "alone"]
    columns = [dict(zip(head[1:], row[1:], strict=True)) for row in found]
    perplexities = [math.exp(3.0), math.exp(3.1)]
    mean, low, high = sum(perplexities) / 2, *perplexities
    assert columns[0]["perplexity"] == f"{mean:.2f} ({low:.2f} to {high:.2f})"
    assert (columns[0]["change"], columns[0]["seeds"]) == ("", "2")
    up, down = 100 * math.expm1(0.03), 100 * math.expm1(-0.02)
    assert columns[1]["change"] == f"+{(up + down) / 2:.1f} (−{-down:.1f} to +{up:.1f})"
    assert columns[1]["change on the test documents"] == f"+{up:.1f}"
    assert columns[1]["seconds"] == "+400"  # 50 s where 10 were taken
    first, second = 100 * math.expm1(-0.02), 100 * math.expm1(-0.05)
    said = f"−{-(first + second) / 2:.1f} (−{-second:.1f} to −{-first:.1f})"
    assert columns[2]["change"] == f"**{said}**"
    assert (columns[2]["seconds"], columns[2]["FLOPs"]) == ("−50", "+0.0")
    assert (columns[3]["change"], columns[3]["seeds"]) == ("", "0")


def test_the_page_has_the_changes_and_families_are_compared_only_if_there_are_two() -> None:
    results = [*trained(["Hyena"]), replace(training("Hyena", MILLION), family="a change")]
    options: dict[str, Any] = {"reference": None, "changed": ("Hyena", ["a change"])}
    page = table(results, **options)
    assert "No family has attention" not in page
    found = page.splitlines()
    assert [row[0] for row in rows(found, "## Changes to Hyena")[1:]] == [
        "Hyena",
        "a change",
        "Hyena",
        "Hyena",
    ]
    assert len(rows(found, "### The grid")) == 5
    both = table([*results, *trained(["Transformer"])], **{**options, "reference": "Transformer"})
    assert "## Hyena against Transformer" in both
    assert "## a change against" not in both
    begun = table(results[3:], **options).splitlines()
    assert after(begun, "## Changes to Hyena")[1].startswith("No training of Hyena, to which")


@pytest.mark.usefixtures("here")
def test_a_sweep_trains_the_changes_to_the_best_trial(data: Path, tmp_path: Path) -> None:
    config = of_one_family(
        data, tmp_path, Change("with dropout", {"model.dropout": 0.5}), tokens_per_parameter=[0.25]
    )
    lines: list[str] = []
    end = run_scaling(config, lines.append)
    assert (end.finished, end.failed) == (2 + 4, 0)
    grid = [result for result in read_results(tmp_path) if result.phase == "grid"]
    assert [result.family for result in grid] == ["Hyena", "with dropout"] * 2
    rate = {result.settings["optimizer"]["lr"] for result in grid}
    assert len(rate) == 1
    assert [result.settings["model"]["dropout"] for result in grid] == [0.0, 0.5] * 2
    page = write_table(tmp_path).read_text(encoding="utf-8")
    assert [row[0] for row in rows(page.splitlines(), "## Changes to Hyena")] == [
        "",
        "Hyena",
        "with dropout",
        "Hyena",
        "with dropout",
    ]


@pytest.mark.parametrize(
    "config",
    [
        {"changes": 3},
        {"changes": [{"name": 3, "settings": {}}]},
        {"changes": [{"name": "a", "settings": {}}]},
        {"changes": [{"name": "a", "settings": {}}], "families": []},
    ],
)
def test_a_damaged_plan_is_one_line(config: dict[str, Any], tmp_path: Path) -> None:
    write_record(tmp_path / PLAN, Planned(config, {}, [], []), FORMAT_VERSION)
    with pytest.raises(ValueError, match=r"^scaling\.json is damaged: .*; run the sweep again"):
        write_table(tmp_path)
