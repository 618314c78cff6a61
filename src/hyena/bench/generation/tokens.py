"""Time a token: contenders generate in turns, and each token is timed for itself.

A token that completes a block costs more than the others, so that a mean alone would hide how long
one may have to wait.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hyena.bench.generation.held import held_bytes
from hyena.bench.timing import Clock, quartiles, rounds, without_collector

Step = Callable[[int], Tensor]
"""The output (B, …) of the i-th token; to be called with 0, 1, 2, …"""

TURN = 1024  # tokens: a contender's caches are cold only once in so many
_WARM_UP = 130  # tokens at most: two blocks, so that a tile is among them
_SETTLED = 0.5  # seconds of warming up that are enough


@dataclass(frozen=True)
class Course:
    """A contender's way through its tokens.

    Attributes:
        begin: goes to the first token and returns the steps from there.
        tokens: how many there are.
        fewest: where its share of time is short, so few will do, since all cost alike; without,
            it does all of them.
        check: how far its outputs, (tokens done, compared rows, …), are from the truth; None if
            that is known otherwise.
        tolerance: of ``check``.
        held: bytes of its state.
        state_error: how far the state that it begins from is from the truth, where that is known.
    """

    begin: Callable[[], Step]
    tokens: int
    fewest: int | None = None
    check: Callable[[Tensor], float] | None = None
    tolerance: float = math.inf
    held: int | None = None
    state_error: float | None = None


def stepping(
    step: Callable[[Tensor, Any], tuple[Tensor, Any]],
    start: Any,
    again: Callable[[Any], Any],
    tokens: Sequence[Tensor],
    **more: Any,
) -> Course:
    """Through tokens with a step that advances its state in place.

    Args:
        step: of a mixer or a model.
        start: the state before the first token.
        again: of the start, a state to go on from that leaves it as it is.
        tokens: T inputs of a step.
        more: other attributes of the course.
    """

    def begin() -> Step:
        state = again(start)
        return lambda i: step(tokens[i], state)[0]

    return Course(begin, len(tokens), held=held_bytes(start), **more)


class PerToken(NamedTuple):
    """Seconds a token. The first three are of the repetitions' means."""

    median: float
    lower: float  # quartile
    upper: float  # quartile
    samples: int  # repetitions
    tokens: int  # in each of them
    p99: float  # of all tokens
    worst: float


def compared(y: Tensor) -> Tensor:
    """The rows of a batch that are compared with the truth: the first and the last."""
    return y[:: max(1, y.shape[0] - 1)]


@torch.no_grad()
def time_tokens(
    courses: Mapping[str, Course],
    *,
    repeats: int,
    seconds: float,
    turn: int | None = None,
    clock: Clock = time.perf_counter,
) -> tuple[dict[str, PerToken], dict[str, Tensor]]:
    """Times courses in turns of some tokens each, ``repeats`` times from the beginning.

    Args:
        courses: by name. Each is warmed up first.
        repeats: R ≥ 1.
        seconds: of a contender that need not do all its tokens, in all repetitions.
        turn: tokens, about; by default TURN.
        clock: to be replaced in tests.

    Returns: times by name, and the outputs of the last repetition of those that have a check.
    Raises: ValueError if there is nothing to time, or no budget.
    """
    if not courses or repeats < 1 or seconds <= 0:
        raise ValueError(
            f"time_tokens: expected courses, repeats ≥ 1 and seconds > 0, got {len(courses)} "
            f"courses, {repeats} repeats and {seconds} seconds"
        )
    share = seconds / repeats
    counts = {name: _count(course, share, clock) for name, course in courses.items()}
    took: dict[str, list[list[float]]] = {name: [] for name in courses}
    kept: dict[str, Tensor] = {}
    with without_collector():
        for r in range(repeats):
            steps = {name: course.begin() for name, course in courses.items()}
            for times in took.values():
                times.append([])
            for name, start, stop in turns(counts, r, turn or TURN):
                for i in range(start, stop):
                    begin = clock()
                    y = steps[name](i)
                    took[name][r].append(clock() - begin)
                    if courses[name].check is not None and r == repeats - 1:
                        some = compared(y)
                        if name not in kept:
                            kept[name] = some.new_empty(counts[name], *some.shape)
                        kept[name][i] = some
    return {name: per_token(times) for name, times in took.items()}, kept


def turns(
    counts: Mapping[str, int], shift: int = 0, turn: int = TURN
) -> Iterator[tuple[str, int, int]]:
    """(name, first token, one past the last) in the order of measurement.

    Each contender has turns of about so many tokens; see `hyena.bench.timing.rounds`.
    """
    parts = {name: max(1, count // turn) for name, count in counts.items()}
    done = dict.fromkeys(parts, 0)
    for name in rounds(parts, shift):
        start, stop = (i * counts[name] // parts[name] for i in (done[name], done[name] + 1))
        done[name] += 1
        yield name, start, stop


def per_token(repetitions: list[list[float]]) -> PerToken:
    """The figures of some repetitions, each the seconds of its tokens."""
    means = [statistics.fmean(times) for times in repetitions]
    tokens = sorted(time for times in repetitions for time in times)
    p99 = tokens[min(len(tokens) - 1, math.ceil(0.99 * len(tokens)) - 1)]
    return PerToken(*quartiles(means), len(means), len(repetitions[0]), p99, tokens[-1])


def _count(course: Course, share: float, clock: Clock) -> int:
    """Warms a course up; how many of its tokens fit into its share of seconds."""
    step, best, spent = course.begin(), math.inf, 0.0
    for i in range(min(course.tokens, _WARM_UP)):
        begin = clock()
        step(i)
        took = clock() - begin
        best, spent = min(best, took), spent + took
        if course.fewest is not None and i + 1 >= course.fewest and spent > _SETTLED:
            break
    if course.fewest is None:
        return course.tokens
    return max(min(int(share / max(best, 1e-9)), course.tokens), min(course.fewest, course.tokens))
