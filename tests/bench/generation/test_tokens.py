"""Tokens timed one by one, in turns."""

from collections.abc import Callable
from itertools import count, pairwise

import pytest
import torch
from torch import Tensor

from hyena.bench.generation.tokens import Course, Step, compared, per_token, time_tokens, turns


class Pretended:
    """A clock that goes on by what a step costs, and a log of all steps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[tuple[str, int]] = []

    def course(
        self, name: str, cost: Callable[[int], float], tokens: int, **more: object
    ) -> Course:
        def begin() -> Step:
            expected = count()

            def step(i: int) -> Tensor:
                assert i == next(expected)
                self.log.append((name, i))
                self.now += cost(i)
                return torch.full((3, 2), float(i))

            return step

        return Course(begin, tokens, **more)  # type: ignore[arg-type]

    def __call__(self) -> float:
        return self.now


def test_every_token_has_its_turn_and_turns_alternate() -> None:
    found = list(turns({"a": 65, "b": 20, "c": 3}, turn=10))
    for name, tokens in (("a", 65), ("b", 20), ("c", 3)):
        spans = [(start, stop) for who, start, stop in found if who == name]
        assert spans[0][0] == 0
        assert spans[-1][1] == tokens
        assert all(before[1] == after[0] for before, after in pairwise(spans))
    order = [who for who, *_ in found]
    assert order.count("a") == 6
    assert order.count("b") == 2
    assert order.index("b") < 5 < len(order) - order[::-1].index("b")
    assert next(turns({"a": 1, "b": 1}, shift=1))[0] == "b"


def test_figures_of_the_repetitions_and_of_all_tokens() -> None:
    found = per_token([[1.0] * 99 + [101.0], [2.0] * 100, [3.0] * 100])
    assert found == (2.0, 2.0, 2.5, 3, 100, 3.0, 101.0)
    assert per_token([[1.0, 3.0]])[:4] == (2.0, 2.0, 2.0, 1)
    spike = [1.0] * 98 + [5.0] * 2
    assert per_token([spike]).p99 == 5.0


def test_times_are_those_of_the_steps_and_outputs_of_the_last_repetition() -> None:
    clock = Pretended()
    courses = {
        "spiky": clock.course("spiky", lambda i: 1.0 + 99 * (i == 7), 10, check=lambda got: 0.0),
        "even": clock.course("even", lambda i: 2.0, 4),
    }
    times, outputs = time_tokens(courses, repeats=3, seconds=100.0, clock=clock)
    assert times["spiky"].median == pytest.approx(10.9)
    assert times["spiky"].worst == pytest.approx(100.0)
    assert times["even"][:5] == (2.0, 2.0, 2.0, 3, 4)
    assert set(outputs) == {"spiky"}
    assert outputs["spiky"].shape == (10, 2, 2)  # first and last row of three
    assert torch.equal(outputs["spiky"][:, 0, 0], torch.arange(10.0))
    # Warmed up once, then in another order each time.
    assert [who for who, i in clock.log if i == 0] == [
        *("spiky", "even"),
        *("spiky", "even"),
        *("even", "spiky"),
        *("spiky", "even"),
    ]


@pytest.mark.parametrize(("seconds", "tokens"), [(1e9, 50), (2 * 20, 20), (1e-3, 4)])
def test_tokens_that_all_cost_alike_are_as_many_as_the_budget_has_room_for(
    seconds: float, tokens: int
) -> None:
    clock = Pretended()
    courses = {"a": clock.course("a", lambda i: 1.0, 50, fewest=4)}
    times, _ = time_tokens(courses, repeats=2, seconds=seconds, clock=clock)
    assert times["a"].tokens == tokens


def test_of_a_batch_the_first_and_the_last_row_are_compared() -> None:
    y = torch.arange(8)[:, None]
    assert compared(y).flatten().tolist() == [0, 7]
    assert compared(y[:1]).flatten().tolist() == [0]


def test_nothing_to_time_is_an_error() -> None:
    course = Pretended().course("a", lambda i: 1.0, 1)
    with pytest.raises(ValueError, match="repeats ≥ 1 and seconds > 0, got 0 courses, 1 rep"):
        time_tokens({}, repeats=1, seconds=1.0)
    with pytest.raises(ValueError, match="got 1 courses, 1 repeats and 0 seconds"):
        time_tokens({"a": course}, repeats=1, seconds=0)
