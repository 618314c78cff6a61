"""The rows, and that the goals can be read off them."""

from collections.abc import Callable
from functools import partial

import pytest
from fake_results import results

from hyena.bench.convolution import cases
from hyena.bench.convolution.cases import CONTENDERS, MODES, Case, chosen
from hyena.bench.convolution.goals import goals

SUITES = {"goals": cases.goals, "sweep": cases.sweep, "quick": cases.quick}
ON_DEVICE = {
    "goals": partial(cases.on_device, "cuda"),
    "quick": partial(cases.quick, device="cuda"),
}


@pytest.mark.parametrize(
    ("suite", "make"), [*SUITES.items(), *ON_DEVICE.items()], ids=lambda x: str(x)[:20]
)
def test_rows_have_names_of_their_own_and_known_contenders(
    suite: str, make: Callable[[], list[Case]]
) -> None:
    cells = make()
    assert len({cell.key for cell in cells}) == len(cells)
    for cell in cells:
        assert cell.suite == suite
        assert cell.contenders
        assert set(cell.memory) <= set(cell.contenders)
        assert {cell.mode(name) for name in cell.contenders} <= set(MODES)
        if cell.work != "two_lengths":
            assert set(cell.contenders) <= set(CONTENDERS)


def test_the_modes() -> None:
    def cell(work: str, allocator: str) -> Case:
        return Case("goals", work, "forward", allocator, 8, 8, ())  # type: ignore[arg-type]

    assert cell("operator", "default").mode("ours_out") == "c"
    assert cell("gated_conv", "default").mode("ours") == "a"
    assert cell("gated_conv", "default").mode("public") == "a"
    assert cell("gated_conv", "tuned").mode("ours") == "b"
    assert cell("two_lengths", "default").mode("L=8") == "a"
    assert cell("two_lengths", "tuned").mode("L=8") == "b"


def test_the_suite_measures_what_every_goal_needs() -> None:
    found = results(cases.goals())
    missing = [goal for goal in goals() if goal.measure(found) is None]
    assert not missing


def test_workspaces_are_of_the_operator_beside_fresh_tensors_of_the_default_allocator() -> None:
    with_reuse = [cell for cell in cases.goals() if "ours_out" in cell.contenders]
    assert with_reuse
    for cell in with_reuse:
        assert cell.work.startswith("operator")
        assert (cell.direction, cell.allocator) == ("forward", "default")
        assert {cell.mode(name) for name in cell.contenders} == {"a", "c"}


def test_all_lengths_that_the_goals_speak_of_are_there() -> None:
    assert cases.EVERY_LENGTH == (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
    assert (cases.GROWTH_LENGTHS[0], cases.GROWTH_LENGTHS[-1]) == (1024, 1 << 20)
    assert {1000, 10007, 100003, 256, 1 << 20} <= set(cases.SWEEP_LENGTHS)
    for odd, power in cases.ODD_LENGTHS:
        assert power // 2 < odd < power
        assert power & (power - 1) == 0


def test_the_sweep_goes_from_short_to_long() -> None:
    lengths: dict[tuple[object, ...], int] = {}
    for cell in cases.sweep([8], [300, 100, 200]):
        kind = (cell.work, cell.direction, cell.allocator)
        assert cell.length > lengths.get(kind, 0)
        lengths[kind] = cell.length
        assert cell.patience
    assert set(lengths.values()) == {300}


def test_the_goals_can_be_narrowed() -> None:
    whole, some = chosen("goals"), chosen("goals", widths=[256], lengths=[2048])
    assert [cell.key for cell in whole] == [cell.key for cell in cases.goals()]
    assert some
    assert {(cell.width, cell.length) for cell in some} == {(256, 2048)}
    assert {cell.length for cell in chosen("goals", lengths=[131072])} == {100003, 65536, 131072}


def test_on_another_device_nothing_is_about_the_cpu_and_lengths_go_from_2k_to_1m() -> None:
    cells = chosen("goals", device="cuda")
    assert {cell.device for cell in cells} == {"cuda"}
    assert {cell.allocator for cell in cells} == {"default"}
    names = {name for cell in cells for name in cell.contenders}
    assert not names & {"ours_out", "torch", "sdpa", "block"}
    convolutions = [cell for cell in cells if cell.work == "gated_conv"]
    assert sorted({cell.length for cell in convolutions}) == [1 << a for a in range(11, 21)]
    assert str(convolutions[0]) == "gated_conv forward, D=64, L=2048, cuda"
    for suite in ("sweep", "all"):
        assert chosen(suite, device="cuda") == cells
    some = chosen("goals", widths=[128], lengths=[512], device="cuda")
    assert {(cell.width, cell.length) for cell in some if cell.work != "error"} == {(128, 512)}
    missing = [goal for goal in goals("cuda") if goal.measure(results(cells)) is None]
    assert not missing


def test_the_sweep_takes_its_sizes_from_the_options() -> None:
    cells = chosen("sweep", widths=[64], lengths=[300, 500])
    assert {(cell.width, cell.length) for cell in cells} == {(64, 300), (64, 500)}
    both = chosen("all")
    assert {cell.suite for cell in both} == {"goals", "sweep"}
