"""What a benchmark is to reach, and how that is read off its results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Results = Mapping[str, Mapping[str, Any]]
"""Of cases, by their keys."""


class Measured(NamedTuple):
    """A figure, with its range if it is a ratio of times: quartile against quartile."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""

    def scaled(self, factor: float) -> "Measured":
        """So many times it."""
        low, high = (None if x is None else x * factor for x in (self.low, self.high))
        return Measured(self.value * factor, low, high, self.note)


Measure = Callable[[Results], Measured | None]
"""The figure; None if it was not measured."""


@dataclass(frozen=True)
class Goal:
    """A row of the table of goals."""

    number: int
    work: str
    where: str
    target: float
    at_least: bool
    """Met by a figure of at least, or at most, the target."""
    measure: Measure
    unit: str = "×"
    """Of a figure of at least the target, behind it in a table."""

    def met(self, measured: Measured) -> bool:
        """Whether a figure reaches the target."""
        if self.at_least:
            return measured.value >= self.target
        return measured.value <= self.target

    def record(self, results: Results) -> dict[str, Any]:
        """As it is written to JSON."""
        found = self.measure(results)
        fields = ("number", "work", "where", "target", "at_least")
        return {
            **{name: getattr(self, name) for name in fields},
            "measured": None if found is None else found._asdict(),
            "met": None if found is None else self.met(found),
        }


def times_of(results: Results, key: str) -> Mapping[str, Any]:
    """The times of a case by contender; empty if it has none."""
    times: Mapping[str, Any] = results.get(key, {}).get("times", {})
    return times


def ratio(times: Mapping[str, Any], baseline: str, ours: str) -> Measured:
    """How many times longer a baseline takes: of medians, and of quartiles against each other."""
    a, b = times[baseline], times[ours]
    return Measured(
        a["median"] / b["median"], a["lower"] / b["upper"], a["upper"] / b["lower"], baseline
    )


def faster(key: str, ours: str, *baselines: str) -> Measure:
    """How much faster ours is in a case than the fastest of the baselines."""

    def measure(results: Results) -> Measured | None:
        times = times_of(results, key)
        if not {ours, *baselines} <= set(times):
            return None
        found = min(ratio(times, baseline, ours) for baseline in baselines)
        return found if len(baselines) > 1 else found._replace(note="")

    return measure


def growth(pairs: Sequence[tuple[str, int, int]], factor: float = 1.0) -> Measure:
    """So many times the time of a second length against that of a first; of several the worst.

    Args: pairs, the key of a case and two lengths L, of which it has contenders "L=…".
    """

    def measure(results: Results) -> Measured | None:
        found = []
        for key, first, second in pairs:
            times = times_of(results, key)
            if not {f"L={first}", f"L={second}"} <= set(times):
                return None
            its = ratio(times, f"L={second}", f"L={first}").scaled(factor)
            found.append(its._replace(note=f"L={first} to {second}" if len(pairs) > 1 else ""))
        return max(found)

    return measure
