"""The goals, each with how it is read off the results."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from hyena.bench import cases
from hyena.bench.allocator import Allocator
from hyena.bench.cases import Direction, Work

Results = Mapping[str, Mapping[str, Any]]


class Measured(NamedTuple):
    """A figure, with its range if it is a ratio of times: quartile against quartile."""

    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Goal:
    """A row of the table of goals."""

    number: int
    work: str
    where: str
    target: float
    at_least: bool
    """Met by a figure of at least, or at most, the target."""
    measure: Callable[[Results], Measured | None]
    """The figure; None if it was not measured."""

    def met(self, measured: Measured) -> bool:
        """Whether a figure reaches the target."""
        if self.at_least:
            return measured.value >= self.target
        return measured.value <= self.target


def goals() -> list[Goal]:
    """All of them, in order. Inference has ours in mode (c) against the rival in (a), training
    both in (b)."""
    D = cases.CONV_WIDTH
    rows: list[Goal] = []

    def faster(
        number: int,
        text: str,
        where: str,
        target: float,
        key: str,
        ours: str,
        *rivals: str,
    ) -> None:
        rows.append(Goal(number, text, where, target, True, _faster(key, ours, rivals)))

    text = "gated conv forward, spectrum cached, against the public recipe"
    for L, target in zip(cases.CONV_LENGTHS, (5.0, 7.0, 20.0), strict=True):
        key = _key("gated_conv", "forward", "default", D, L)
        faster(1, text, f"D={D}, L={L}", target, key, "ours_out", "public")
    text = "gated conv forward + backward, spectrum recomputed, against the public recipe"
    for L, target in zip(cases.CONV_LENGTHS, (4.5, 5.5, 16.0), strict=True):
        key = _key("gated_conv", "training", "tuned", D, L)
        faster(2, text, f"D={D}, L={L}", target, key, "ours", "public")
    for direction, name, target in (
        ("forward", "forward", 4.0),
        ("training", "forward + backward", 3.5),
    ):
        text = f"gated conv {name}, both in mode (b), against the public recipe"
        for L in cases.EVERY_LENGTH:
            key = _key("gated_conv", direction, "tuned", D, L)  # type: ignore[arg-type]
            faster(3, text, f"D={D}, L={L}", target, key, "ours", "public")
    text = "gated conv forward, against SDPA"
    for L, target in zip(cases.CONV_LENGTHS, (27.0, 80.0, 550.0), strict=True):
        key = _key("gated_conv", "forward", "default", D, L)
        faster(4, text, f"D={D}, L={L}", target, key, "ours_out", "sdpa")
    text = "whole operator forward, against the public operator"
    for (width, L), target in zip(cases.OPERATOR_SIZES[:4], (2.5, 2.5, 5.5, 2.5), strict=True):
        key = _key("operator", "forward", "default", width, L)
        faster(5, text, f"D={width}, L={L}", target, key, "ours_out", "public")
    text = "whole operator forward, against the attention block"
    for width, L, target in ((256, 8192, 10.0), (256, 65536, 60.0), (64, 65536, 100.0)):
        key = _key("operator", "forward", "default", width, L)
        faster(6, text, f"D={width}, L={L}", target, key, "ours_out", "block")
    text = "bf16 autocast operator forward, against the faster bf16 attention block"
    key = _key("operator_bf16", "forward", "default", 768, 8192)
    faster(7, text, "D=768, L=8192", 7.0, key, "ours_out", "block_autocast", "block_bf16")
    for direction, name in (("forward", "forward"), ("training", "forward + backward")):
        text = f"gated conv {name}, time per element against the next power of two"
        for odd, power in cases.ODD_LENGTHS:
            measure = _per_element(direction, D, odd, power)  # type: ignore[arg-type]
            rows.append(Goal(8, text, f"D={D}, L={odd} to {power}", 1.6, False, measure))
    text = "gated conv, relative L2 error against float64, output and every gradient"
    where = f"L={cases.EVERY_LENGTH[0]} … {cases.EVERY_LENGTH[-1]}"
    rows.append(Goal(9, text, where, 4e-7, False, _worst_error))
    W, lengths = cases.GROWTH_WIDTH, cases.GROWTH_LENGTHS
    text = "gated conv forward + backward, worst time(2L)/time(L)"
    rows.append(Goal(10, text, f"D={W}, L={lengths[0]} … {lengths[-1]}", 2.3, False, _growth))
    text = "gated conv forward + backward, peak memory of the process in GiB"
    rows.append(Goal(10, text, f"D={W}, L={lengths[-1]}", 12.0, False, _memory))
    return rows


def ratio(times: Mapping[str, Any], rival: str, ours: str) -> Measured:
    """How many times longer a rival takes: of medians, and of quartiles against each other."""
    a, b = times[rival], times[ours]
    return Measured(
        a["median"] / b["median"], a["lower"] / b["upper"], a["upper"] / b["lower"], rival
    )


def _key(
    work: Work,
    direction: Direction,
    allocator: Allocator,
    width: int,
    length: int,
    beside: int | None = None,
) -> str:
    return cases.Cell("goals", work, direction, allocator, width, length, (), beside).key


def _times(results: Results, key: str) -> Mapping[str, Any]:
    times: Mapping[str, Any] = results.get(key, {}).get("times", {})
    return times


def _faster(key: str, ours: str, rivals: Sequence[str]) -> Callable[[Results], Measured | None]:
    """Against the fastest of the rivals."""

    def measure(results: Results) -> Measured | None:
        times = _times(results, key)
        if not {ours, *rivals} <= set(times):
            return None
        found = min(ratio(times, rival, ours) for rival in rivals)
        return found if len(rivals) > 1 else found._replace(note="")

    return measure


def _per_element(
    direction: Direction, width: int, odd: int, power: int
) -> Callable[[Results], Measured | None]:
    allocator: Allocator = "default" if direction == "forward" else "tuned"

    def measure(results: Results) -> Measured | None:
        times = _times(results, _key("two_lengths", direction, allocator, width, odd, power))
        if not times:
            return None
        found = ratio(times, f"L={odd}", f"L={power}")
        scale = power / odd
        low, high = found.low, found.high
        return Measured(
            found.value * scale,
            None if low is None else low * scale,
            None if high is None else high * scale,
        )

    return measure


def _worst_error(results: Results) -> Measured | None:
    found = []
    for length in cases.EVERY_LENGTH:
        cell = cases.Cell("goals", "error", "training", "default", cases.ERROR_WIDTH, length, ())
        errors = results.get(cell.key, {}).get("errors", {}).get("ours")
        if not errors:
            return None
        found += [Measured(error, note=f"{name}, L={length}") for name, error in errors.items()]
    return max(found, key=lambda worst: math.inf if math.isnan(worst.value) else worst.value)


def _growth(results: Results) -> Measured | None:
    found = []
    for length, double in pairwise(cases.GROWTH_LENGTHS):
        key = _key("two_lengths", "training", "tuned", cases.GROWTH_WIDTH, length, double)
        times = _times(results, key)
        if not times:
            return None
        value, low, high, _ = ratio(times, f"L={double}", f"L={length}")
        found.append(Measured(value, low, high, f"L={length} to {double}"))
    return max(found)


def _memory(results: Results) -> Measured | None:
    length, double = cases.GROWTH_LENGTHS[-2:]
    key = _key("two_lengths", "training", "tuned", cases.GROWTH_WIDTH, length, double)
    found = results.get(key, {}).get("memory", {}).get(f"L={double}", {})
    if "process" not in found:
        return None
    return Measured(found["process"] / 2**30, note=f"{found['call'] / 2**30:.1f} in the call")
