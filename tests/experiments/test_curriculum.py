"""When a training goes on to the next phase, or to one more key."""

from pathlib import Path
from typing import Any

import pytest
from tiny_cells import cell, differing, timeless

from hyena.experiments.curriculum import Phase, Place, advance, begin, build_phases, is_over
from hyena.experiments.run import run_cell


def phases_of(*stages: tuple[Any, ...], steps: int = 5) -> list[Phase]:
    config = cell(
        Path("x"), task={"vocab_size": 10}, training={"stages": list(stages), "steps": steps}
    )
    return build_phases(config)


def follow(phases: list[Phase], shares: list[float], asked: int = 100) -> list[tuple[Any, ...]]:
    """(phase, step, keys) after each update with such a share of right answers."""
    place, found = begin(phases, 0), []
    for share in shares:
        place = advance(place, phases, round(share * asked), asked)
        found.append((place.phase, place.step, place.keys))
    return found


def test_without_a_share_stages_have_their_steps() -> None:
    phases = phases_of((4, 2), (6, 1))
    assert follow(phases, [1.0] * 4) == [(0, 1, None), (1, 0, None), (2, 0, None), (2, 1, None)]
    assert not is_over(Place(2, 4), phases)
    assert is_over(Place(2, 5), phases)


def test_a_stage_ends_when_enough_of_the_latest_answers_are_right() -> None:
    phases = phases_of((4, 100, 0.9))
    found = follow(phases, [0.0] * 20 + [1.0] * 18)
    assert [place[0] for place in found] == [0] * 37 + [1]  # 18 of the latest 20 steps
    assert follow(phases, [0.89] * 100)[-1] == (1, 0, None)  # its steps end it


def test_few_answers_in_a_step_need_more_steps() -> None:
    phases = phases_of((4, 1000, 0.9))
    found = follow(phases, [1.0] * 200, asked=2)
    assert [place[0] for place in found].index(1) == 127  # 128 steps of 2 answers are 256


def test_keys_are_added_one_by_one_and_counted_anew() -> None:
    phases = phases_of((4, 1000, 0.9, 2))  # of 4 keys
    found = follow(phases, [0.8] * 100)
    assert [place[2] for place in found] == [2] * 19 + [3] * 20 + [None] * 61
    assert {place[0] for place in found} == {0}  # 0.8 is enough for more keys, not for the end
    found = follow(phases, [1.0] * 60)
    assert found[-1] == (1, 0, None)


def test_after_the_stages_there_may_be_no_steps() -> None:
    phases = phases_of((4, 1), steps=0)
    (place,) = follow(phases, [0.5])
    assert place == (1, 0, None)
    assert is_over(Place(1, 0), phases)


def test_the_curve_has_the_keys_that_were_trained_last(tmp_path: Path) -> None:
    training = {"stages": [(4, 7, 0.9, 2)], "steps": 2, "batch": 2, "evaluate_every": 4}
    said: list[str] = []
    end = run_cell(cell(tmp_path, task={"vocab_size": 10}, training=training), say=said.append)
    assert end.result is not None
    trained = [(point["step"], point["phase"], point["keys"]) for point in end.result.curve]
    assert trained == [(4, 0, 2), (7, 0, 2), (8, 1, None), (9, 1, None)]
    assert [", 2 keys" in line for line in said] == [True, True, False, False, False]


@pytest.mark.parametrize("signal_after", [3, 30, 45])
def test_a_curriculum_resumes_bit_for_bit(
    signal_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {
        "task": {"vocab_size": 10},
        "training": {
            "stages": [(4, 40, 0.01, 2, 0.01), (6, 9)],
            "steps": 3,
            "batch": 16,
            "evaluate_every": 10,
        },
    }
    whole, parts = (cell(tmp_path / name, **settings) for name in ("whole", "parts"))
    expected = run_cell(whole)

    import os
    import signal

    def stop(step: int, _: int) -> None:
        if step == signal_after:
            os.kill(os.getpid(), signal.SIGTERM)

    first = run_cell(parts, progress=stop)
    if first.result is None:
        assert first.step == signal_after
    found = run_cell(parts)
    assert timeless(found.result) == timeless(expected.result)
    assert not differing(whole, parts)
