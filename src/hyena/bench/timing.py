"""Times of several calls, in turns: whatever else the machine does meanwhile meets all alike."""

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch

Call = Callable[[], object]
Clock = Callable[[], float]

_BLOCK = 0.005  # seconds of calls behind one sample: far above what reading the clock costs
_WARM_UP = 4  # calls at most, for memory and caches to settle
_LONG = 0.2  # seconds of a call next to which what a first one costs more does not matter
_FEWEST = 3  # samples, unless one alone takes more than twice the budget


class Timing(NamedTuple):
    """Seconds a call, over the samples of one contender."""

    median: float
    lower: float  # quartile
    upper: float  # quartile
    samples: int
    calls: int  # in each sample, which is their mean


class DeviceClock:
    """Seconds by events of a device: a reading waits until the device has done what it was given.

    An event knows its distance from another in float32 milliseconds, so each is measured from the
    one before, however long ago the first one was.
    """

    def __init__(self, event: Callable[[], torch.Event]) -> None:
        self._event = event
        self._seconds, self._last = 0.0, self._record()

    def __call__(self) -> float:
        now = self._record()
        self._seconds += self._last.elapsed_time(now) / 1e3
        self._last = now
        return self._seconds

    def _record(self) -> torch.Event:
        event = self._event()
        event.record()
        event.synchronize()
        return event


def clock_of(device: str) -> Clock:
    """The clock by which work on a device is timed: Python's for the CPU."""
    if device == "cpu":
        return time.perf_counter
    return DeviceClock(partial(torch.Event, device, enable_timing=True))


def time_in_turns(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    repeats: int,
    first: Mapping[str, float] | None = None,
    clock: Clock = time.perf_counter,
) -> dict[str, Timing]:
    """Times calls in rounds: in each round every contender has its turn, and they start in turn.

    A quick contender makes many calls in its turn, a slow one takes part in some rounds only. What
    a call returns is freed within its time. Each is warmed up first.

    Args:
        calls: what to time, by name.
        seconds: of all samples together, shared evenly. A contender whose share is too short for
            three samples has three all the same, or one if a call takes more than twice all of it.
        repeats: samples of a contender at most.
        first: seconds of a call made before, by name: a long one counts as warmed up by it.
        clock: of the device; see `clock_of`.

    Raises: ValueError if there is nothing to time, or no budget.
    """
    if not calls or seconds <= 0 or repeats < 1:
        raise ValueError(
            f"time_in_turns: expected calls, seconds > 0 and repeats ≥ 1, got {len(calls)} calls, "
            f"{seconds} seconds and {repeats} repeats"
        )
    share = seconds / len(calls)
    samples: dict[str, list[float]] = {name: [] for name in calls}
    with without_collector():
        once = {
            name: _warm_up(call, (first or {}).get(name), share, clock)
            for name, call in calls.items()
        }
        inner = {name: max(1, math.ceil(_BLOCK / max(once[name], 1e-9))) for name in calls}
        turns = {
            name: _samples(once[name] * inner[name], share, seconds, repeats) for name in calls
        }
        for name in rounds(turns):
            samples[name].append(_sample(calls[name], inner[name], clock))
    return {
        name: Timing(*quartiles(times), len(times), inner[name]) for name, times in samples.items()
    }


def _warm_up(call: Call, first: float | None, share: float, clock: Clock) -> float:
    """Seconds of a warm call, after some calls that are not counted."""
    if first is not None and first > max(share / 4, _LONG):
        return first
    best, spent = math.inf, 0.0
    for _ in range(_WARM_UP):
        took = _sample(call, 1, clock)
        best, spent = min(best, took), spent + took
        if spent > share / 2:
            break
    return best


def _samples(sample: float, share: float, seconds: float, repeats: int) -> int:
    """How many samples of this length a contender may take."""
    fewest = _FEWEST if sample <= 2 * seconds else 1
    return min(max(int(share / max(sample, 1e-9)), fewest), repeats)


def rounds(turns: Mapping[str, int], shift: int = 0) -> Iterator[str]:
    """Names in the order of measurement: each as often as its turns, spread evenly. Who begins a
    round changes; the first one, by ``shift``."""
    count, names = max(turns.values()), list(turns)
    for r in range(count):
        first = (r + shift) % len(names)
        for name in names[first:] + names[:first]:
            if (r + 1) * turns[name] // count > r * turns[name] // count:
                yield name


def _sample(call: Call, inner: int, clock: Clock) -> float:
    """Mean seconds of ``inner`` calls in a row."""
    begin = clock()
    for _ in range(inner):
        call()
    return (clock() - begin) / inner


def quartiles(times: list[float]) -> tuple[float, float, float]:
    """Median, lower quartile and upper quartile of one time or more."""
    if len(times) == 1:
        return times[0], times[0], times[0]
    lower, median, upper = statistics.quantiles(times, n=4, method="inclusive")
    return median, lower, upper


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector would run in some contender's time."""
    gc.collect()
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
