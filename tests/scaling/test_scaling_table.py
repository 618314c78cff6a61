"""Tables and figures of trainings whose losses follow known laws."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hyena.cli import main
from hyena.files.records import write_record
from hyena.scaling.comparison import comparisons, find_reference
from hyena.scaling.grid import Shape, digits, lay_out, millions, over_seeds
from hyena.scaling.plan import CELLS, FORMAT_VERSION, Planned, Speed
from hyena.scaling.plan import FILE as PLAN
from hyena.scaling.record import Bits, Flops, Result, write_result
from hyena.scaling.table import table, write_table

MILLION = 1_000_000
TOKENS = (MILLION, 2 * MILLION, 4 * MILLION)
MIXERS = {"Hyena": "hyena", "Transformer": "attention", "hybrid": "hyena,attention"}


def bits(loss: float) -> Bits:
    return Bits(loss, 2.0, 10, 20, 3)


def training(family: str, tokens: int, **changes: Any) -> Result:
    """At 64 × 2, by 3 − 0.2 ln(tokens / 10⁶) in bits per byte, with less of each kind of compute
    than a Transformer needs, unless it is one."""
    share = {"executed": 1.0, "paper": 1.0, "seconds": 1.0}
    if family != "Transformer":
        share = {"executed": 0.8, "paper": 0.9, "seconds": 0.5}
    loss = 3.0 - 0.2 * math.log(tokens / MILLION)
    fields: dict[str, Any] = {
        "family": family,
        "width": 64,
        "layers": 2,
        "seed": 0,
        "trial": 0,
        "phase": "grid",
        "tokens_per_parameter": tokens / 4e5,
        "settings": {"model": {"mixers": MIXERS[family]}, "out": f"{family}-{tokens}"},
        "parameters": 500_000,
        "parameters_outside_embedding": 400_000,
        "tokens": tokens,
        "steps": 100,
        "epochs": 0.5,
        "flops": Flops(3e6 * tokens * share["paper"], 3e6 * tokens * share["executed"], None),
        "seconds": 1e-4 * tokens * share["seconds"],
        "precision": "32",
        "validation": bits(loss),
        "test": bits(loss + 0.1),
        "curve": [],
        "versions": {"hyena": "1"},
        "machine": {"processor": "a processor", "cores": 2},
        "threads": 1,
    }
    return Result(**{**fields, **changes})


def trained(families: Iterable[str] = ("Hyena", "Transformer"), **changes: Any) -> list[Result]:
    return [training(family, tokens, **changes) for family in families for tokens in TOKENS]


def lines(results: list[Result], reference: str | None = "Transformer") -> list[str]:
    return table(results, reference=reference).splitlines()


def after(found: list[str], heading: str) -> list[str]:
    """What follows a heading, up to the next one."""
    start = found.index(heading) + 1
    ends = (i for i in range(start, len(found)) if found[i].startswith("#"))
    return found[start : next(ends, len(found))]


def rows(found: list[str], heading: str) -> list[list[str]]:
    """The cells of the tables below a heading, their heads included."""
    lines = [line for line in after(found, heading) if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_savings_of_each_kind_of_compute_stand_in_a_table() -> None:
    found = lines([*trained(seed=0), *trained(seed=1)])
    head, theirs, ours, *_ = rows(found, "## Hyena against Transformer")
    assert head == [
        "size",
        "at the final loss of",
        "which is",
        "executed FLOPs",
        "FLOPs by the paper's formula",
        "tokens",
        "seconds",
    ]
    loss = f"{3 - 0.2 * math.log(4):.4f} after 4M tokens"
    savings = [f"{x:.1f}% ({x:.1f}% to {x:.1f}%)" for x in (20, 10, 0, 50)]
    assert theirs == ["64 × 2", "Transformer", loss, *savings]
    assert ours == ["64 × 2", "Hyena", loss, *savings]


def test_a_single_seed_is_marked() -> None:
    _, theirs, *_ = rows(lines(trained()), "## Hyena against Transformer")
    assert theirs[3] == "20.0%† (20.0% to 20.0%)"


def test_what_is_not_known_of_all_trainings_has_no_column() -> None:
    results = trained()
    head, *_ = rows(lines(results), "## Hyena against Transformer")
    assert "FLOPs by PyTorch's counter" not in head
    counted = [replace(r, flops=replace(r.flops, counted=r.flops.executed)) for r in results]
    head, theirs, *_ = rows(lines(counted), "## Hyena against Transformer")
    assert theirs[head.index("FLOPs by PyTorch's counter")].startswith("20.0%")


def test_what_lies_beyond_the_measured_range_is_said_to() -> None:
    worse = [
        replace(result, validation=bits(result.validation.bits_per_byte + 1))
        for result in trained(["Hyena"])
    ]
    found = rows(lines([*worse, *trained(["Transformer"])]), "## Hyena against Transformer")
    assert found[1][3] == "under 20.0%, beyond the measured range†"
    assert found[2][3] == "under −220.0%, beyond the measured range†"
    better = [
        replace(result, validation=bits(result.validation.bits_per_byte - 1))
        for result in trained(["Hyena"])
    ]
    found = rows(lines([*better, *trained(["Transformer"])]), "## Hyena against Transformer")
    assert found[1][3] == "over 80.0%, beyond the measured range†"
    assert found[2][3] == "over 20.0%, beyond the measured range†"


def test_a_single_budget_is_compared_on_the_other_s_curve() -> None:
    two = [training("Transformer", tokens) for tokens in (MILLION, 4 * MILLION)]
    results = [training("hybrid", 4 * MILLION), *two]
    _, only, *_ = rows(lines(results), "## hybrid against Transformer")
    assert only[1] == "hybrid"
    assert only[3] == "20.0%† (20.0% to 20.0%)"


def test_without_two_budgets_nothing_is_compared_but_equal_tokens() -> None:
    results = [training(family, MILLION) for family in ("Hyena", "Transformer")]
    found = lines(results)
    assert any(line.startswith("At no size") for line in found)
    head, row = rows(found, "## Hyena against Transformer")
    assert head[0] == "size"
    assert row == ["64 × 2", "1M", "2.5", "+0.0000", "+0.0000", "1"]


def test_differences_at_equal_tokens_are_those_of_the_same_seeds() -> None:
    def worse(result: Result, by: float) -> Result:
        loss = result.validation.bits_per_byte + by
        return replace(result, validation=bits(loss), test=None)

    hyena = [worse(training("Hyena", MILLION, seed=s), by) for s, by in ((0, -0.1), (1, 0.3))]
    hyena.append(training("Hyena", MILLION, seed=2))
    others = [training("Transformer", MILLION, seed=seed) for seed in (0, 1)]
    *_, row = rows(lines([*hyena, *others]), "## Hyena against Transformer")
    assert row == ["64 × 2", "1M", "2.5", "+0.1000 (−0.1000 to +0.3000)", "", "2"]


def test_the_trend_says_where_the_saving_is_the_paper_s() -> None:
    # By 30% at width 64 and 25% at 128: a line that is at 20% at 256.
    results = trained(["Transformer"]) + trained(["Transformer"], width=128)
    for width, share in ((64, 0.7), (128, 0.75)):
        for result in trained(["Hyena"], width=width):
            flops = replace(result.flops, executed=share * 3e6 * result.tokens)
            results.append(replace(result, flops=flops))
    found = after(lines(results), "## Hyena against Transformer")
    of_executed, of_paper = (line for line in found if line.startswith("- "))
    assert of_executed == (
        "- executed FLOPs: a doubling of the width adds −5.0 percentage points (−5.0 to −5.0 over "
        "seeds and forms); extrapolated from widths of 64 to 128, it is at 20.0% at 256."
    )
    # By the paper's formula 10% at both.
    assert "a doubling of the width adds 0.0 percentage points" in of_paper
    assert "the line never comes to 20.0%" in of_paper


def test_a_trend_takes_the_final_loss_that_both_reach() -> None:
    # Hyena ends above the Transformer, whose curve alone is read: where it has 3 − 0.2 ln(2) of
    # 2M tokens, Hyena has taken 0.7 and 0.75 of 4M.
    results = trained(["Transformer"]) + trained(["Transformer"], width=128)
    for width, share in ((64, 0.7), (128, 0.75)):
        for tokens in TOKENS:
            result = training("Hyena", tokens, width=width)
            flops = replace(result.flops, executed=share * 3e6 * tokens)
            loss = bits(result.validation.bits_per_byte + 0.2 * math.log(2))
            results.append(replace(result, flops=flops, validation=loss))
    found = after(lines(results), "## Hyena against Transformer")
    of_executed, _ = (line for line in found if line.startswith("- "))
    assert of_executed.startswith("- executed FLOPs: a doubling of the width adds −10.")


def test_a_single_width_has_no_trend() -> None:
    found = after(lines(trained()), "## Hyena against Transformer")
    assert sum("no trend, since fewer than two widths" in line for line in found) == 2


def test_every_training_has_a_row() -> None:
    results = [*trained(seed=0), *trained(seed=1)]
    results[0] = replace(results[0], validation=bits(2.9))
    head, first, *others = rows(lines(results), "### The grid")
    assert len(others) == 5
    row = dict(zip(head, first, strict=True))
    assert row == {
        "": "Hyena",
        "size": "64 × 2",
        "parameters": "400,000, 500,000",
        "tokens": "1M",
        "tokens a parameter": "2.5",
        "epochs": "0.50",
        "executed": "2.4",
        "paper": "2.7",
        "counter": "",
        "validation": "2.9500 (2.9000 to 3.0000)",
        "test": "3.1000",
        "seconds": "50",
        "precision": "32",
        "seeds": "2",
    }


def test_the_joint_law_needs_three_sizes() -> None:
    results = [
        replace(result, parameters_outside_embedding=number, width=width)
        for width, number in ((64, 400_000), (128, 800_000), (256, 1_600_000))
        for result in trained(["Hyena"])
    ]
    head, row = rows(lines(results), "### The loss by size and tokens")
    assert (row[0], row[-1]) == ("Hyena", "9")
    assert float(row[head.index("error")].rstrip("%")) < 1
    assert "### The loss by size and tokens" not in lines(results[:6])


def test_trials_are_told_apart_by_their_options() -> None:
    def trial(number: int, lr: float, loss: float) -> Result:
        settings = {"model": {"mixers": "hyena"}, "optimizer": {"lr": lr}, "out": str(number)}
        tune: dict[str, Any] = {"phase": "tune", "trial": number, "settings": settings}
        return training("Hyena", MILLION, test=None, validation=bits(loss), **tune)

    found = lines([trial(1, 0.002, 2.8), trial(0, 0.001, 2.9)], reference=None)
    assert "No training of the grid is finished yet." in found
    assert rows(found, "### Tuning")[1:] == [
        ["Hyena", "optimizer.lr=0.001", "2.9000", "1M", "2.4"],
        ["Hyena", "optimizer.lr=0.002", "**2.8000**", "1M", "2.4"],
    ]
    assert any(line.startswith("Trials at 64 × 2, seed 0. ") for line in found)


def test_the_machine_is_named_once() -> None:
    found = after(lines(trained()), "### Where it ran")
    assert [line for line in found if line] == [
        "- a processor, 2 cores; 1 thread a training; hyena 1"
    ]


def test_the_reference_is_the_family_of_attention_alone() -> None:
    results = trained(["hybrid", "Hyena", "Transformer"])
    assert find_reference(results) == "Transformer"
    assert find_reference(results, "hybrid") == "hybrid"
    assert find_reference(results[:6]) is None
    with pytest.raises(ValueError, match="of the family 'S4'; expected one of hybrid, Hyena, "):
        find_reference(results, "S4")
    grid = lay_out(results)
    assert "name one to compare with by --reference" in comparisons(grid, None)[0]
    assert comparisons(grid, "S4") == [
        "No training of S4, with which others are compared, is finished yet."
    ]


def test_numbers_in_words() -> None:
    assert [digits(x) for x in (0.01234, 1.5, 123.4, 999.4, 999.6, 12345.6)] == [
        "0.0123",
        "1.5",
        "123",
        "999",
        "1,000",
        "12,346",
    ]
    assert millions(12_345_678) == "12.3M"
    assert str(Shape(64, 2)) == "64 × 2"
    assert over_seeds([], ".1f") == ""
    assert over_seeds([1.0, 1.0], ".1f") == "1.0"
    assert over_seeds([-1.0, 2.0], "+.1f") == "+0.5 (−1.0 to +2.0)"


def sweep(
    out: Path, results: list[Result], left_out: list[str], speeds: Sequence[Speed] = ()
) -> Path:
    """A sweep's folder with these records."""
    names = [f"cell-{i}" for i in range(len(results))]
    for name, result in zip(names, results, strict=True):
        (out / CELLS / name).mkdir(parents=True)
        write_result(out / CELLS / name, result)
    write_record(out / PLAN, Planned({}, {}, left_out, names, list(speeds)), FORMAT_VERSION)
    return out


def test_the_command_writes_table_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left_out = ["size 256 x 4 is left out"]
    folder = sweep(tmp_path / "sweep", trained(["Hyena", "Transformer", "hybrid"]), left_out)
    assert main(["scaling", "table", str(folder), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "## hybrid against Transformer" in printed
    assert "### The grid" not in printed
    assert printed.endswith(f"{tmp_path / 'out' / 'table.md'}\n")
    page = (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "- size 256 x 4 is left out" in page
    for name in ("loss-over-flops.png", "loss-over-seconds.png"):
        assert f"({name})" in page
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
    assert write_table(folder) == folder / "table.md"
    assert (folder / "table.md").read_text(encoding="utf-8") == page
    assert main(["scaling", "table", str(folder), "--reference", "Hyena"]) == 0
    assert "## Transformer against Hyena" in capsys.readouterr().out


def test_a_folder_without_a_sweep_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["scaling", "table", str(tmp_path)]) == 1
    assert f"{tmp_path} holds no scaling sweep" in capsys.readouterr().err


def test_seconds_are_those_of_the_speed_that_was_measured_first(tmp_path: Path) -> None:
    results = [replace(result, seconds=1e6) for result in trained()]  # with company
    folder = sweep(tmp_path, results, [], [Speed("Hyena", 64, 2, 2e4)])
    head, *found = rows(
        write_table(folder).read_text(encoding="utf-8").splitlines(), "### The grid"
    )
    seconds = [(row[0], row[3], row[head.index("seconds")]) for row in found]
    assert seconds[0] == ("Hyena", "1M", "50")
    assert [taken for family, _, taken in seconds if family != "Hyena"] == ["1,000,000"] * 3


def test_a_sweep_that_has_only_begun_has_a_page(tmp_path: Path) -> None:
    page = write_table(sweep(tmp_path, [], [])).read_text(encoding="utf-8")
    assert "No training of the grid is finished yet." in page
    assert ".png" not in page
