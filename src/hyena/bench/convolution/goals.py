"""The goals of the convolution and the operator, each with how it is read off the results."""

import math
from itertools import pairwise
from typing import get_args

from hyena.bench.allocator import Allocator
from hyena.bench.convolution import cases
from hyena.bench.convolution.cases import Case, Direction, Work
from hyena.bench.goals import Goal, Measure, Measured, Results, faster, ratio, times_of

_DIRECTIONS = dict(zip(get_args(Direction), ("forward", "forward + backward"), strict=True))


def goals() -> list[Goal]:
    """All of them, in order.

    Inference compares what a caller gets: of the convolution fresh outputs on both sides, mode (a);
    of the operator its own workspaces, mode (c), against a baseline in (a). Training has both in
    (b). No target was changed when a comparison was: those of goals 1 and 4 at 65,536 were set for
    an output that was given, and page faults of a fresh one cost as much as the kernel.
    """
    D = cases.CONV_WIDTH
    rows: list[Goal] = []

    def add(number: int, text: str, where: str, target: float, measure: Measure) -> None:
        rows.append(Goal(number, text, where, target, number < 8, measure))

    text = "gated conv forward, both in mode (a), spectrum cached, against the public recipe"
    for L, target in zip(cases.CONV_LENGTHS, (5.0, 7.0, 20.0), strict=True):
        key = _key("gated_conv", "forward", "default", D, L)
        add(1, text, f"D={D}, L={L}", target, faster(key, "ours", "public"))
    text = "gated conv forward + backward, both in mode (b), against the public recipe"
    for L, target in zip(cases.CONV_LENGTHS, (4.5, 5.5, 16.0), strict=True):
        key = _key("gated_conv", "training", "tuned", D, L)
        add(2, text, f"D={D}, L={L}", target, faster(key, "ours", "public"))
    for (direction, name), target in zip(_DIRECTIONS.items(), (4.0, 3.5), strict=True):
        text = f"gated conv {name}, both in mode (b), against the public recipe"
        for L in cases.EVERY_LENGTH:
            key = _key("gated_conv", direction, "tuned", D, L)
            add(3, text, f"D={D}, L={L}", target, faster(key, "ours", "public"))
    text = "gated conv forward, both in mode (a), spectrum cached, against SDPA"
    for L, target in zip(cases.CONV_LENGTHS, (27.0, 80.0, 550.0), strict=True):
        key = _key("gated_conv", "forward", "default", D, L)
        add(4, text, f"D={D}, L={L}", target, faster(key, "ours", "sdpa"))
    text = "whole operator forward, in mode (c), against the public operator in (a)"
    for (width, L), target in zip(cases.OPERATOR_SIZES[:4], (2.5, 2.5, 5.5, 2.5), strict=True):
        key = _key("operator", "forward", "default", width, L)
        add(5, text, f"D={width}, L={L}", target, faster(key, "ours_out", "public"))
    text = "whole operator forward, in mode (c), against the attention block in (a)"
    for width, L, target in ((256, 8192, 10.0), (256, 65536, 60.0), (64, 65536, 100.0)):
        key = _key("operator", "forward", "default", width, L)
        add(6, text, f"D={width}, L={L}", target, faster(key, "ours_out", "block"))
    text = "bf16 autocast operator forward, in mode (c), against the faster bf16 attention block"
    key = _key("operator_bf16", "forward", "default", 768, 8192)
    measure = faster(key, "ours_out", "block_autocast", "block_bf16")
    add(7, text, "D=768, L=8192", 7.0, measure)
    for direction, name in _DIRECTIONS.items():
        text = f"gated conv {name}, time per element against the next power of two"
        for odd, power in cases.ODD_LENGTHS:
            where = f"D={D}, L={odd} to {power}"
            add(8, text, where, 1.6, _per_element(direction, D, odd, power))
    text = "gated conv, relative L2 error against float64, output and every gradient"
    where = f"L={cases.EVERY_LENGTH[0]} … {cases.EVERY_LENGTH[-1]}"
    add(9, text, where, 4e-7, _worst_error)
    W, lengths = cases.GROWTH_WIDTH, cases.GROWTH_LENGTHS
    text = "gated conv forward + backward, worst time(2L)/time(L)"
    add(10, text, f"D={W}, L={lengths[0]} … {lengths[-1]}", 2.3, _growth)
    text = "gated conv forward + backward, peak memory of the process in GiB"
    add(10, text, f"D={W}, L={lengths[-1]}", 12.0, _memory)
    return rows


def _key(
    work: Work,
    direction: Direction,
    allocator: Allocator,
    width: int,
    length: int,
    beside: int | None = None,
) -> str:
    return Case("goals", work, direction, allocator, width, length, (), beside).key


def _per_element(direction: Direction, width: int, odd: int, power: int) -> Measure:
    allocator: Allocator = "default" if direction == "forward" else "tuned"

    def measure(results: Results) -> Measured | None:
        times = times_of(results, _key("two_lengths", direction, allocator, width, odd, power))
        if not times:
            return None
        return ratio(times, f"L={odd}", f"L={power}").scaled(power / odd)._replace(note="")

    return measure


def _worst_error(results: Results) -> Measured | None:
    found = []
    for length in cases.EVERY_LENGTH:
        key = _key("error", "training", "default", cases.ERROR_WIDTH, length)
        errors = results.get(key, {}).get("errors", {}).get("ours")
        if not errors:
            return None
        found += [Measured(error, note=f"{name}, L={length}") for name, error in errors.items()]
    return max(found, key=lambda worst: math.inf if math.isnan(worst.value) else worst.value)


def _growth_key(length: int, double: int) -> str:
    return _key("two_lengths", "training", "tuned", cases.GROWTH_WIDTH, length, double)


def _growth(results: Results) -> Measured | None:
    found = []
    for length, double in pairwise(cases.GROWTH_LENGTHS):
        times = times_of(results, _growth_key(length, double))
        if not times:
            return None
        grown = ratio(times, f"L={double}", f"L={length}")
        found.append(grown._replace(note=f"L={length} to {double}"))
    return max(found)


def _memory(results: Results) -> Measured | None:
    length, double = cases.GROWTH_LENGTHS[-2:]
    memory = results.get(_growth_key(length, double), {}).get("memory", {})
    found = memory.get(f"L={double}", {})
    if "process" not in found:
        return None
    return Measured(found["process"] / 2**30, note=f"{found['call'] / 2**30:.1f} in the call")
