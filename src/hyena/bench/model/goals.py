"""The goals of whole models, each with how it is read off the results."""

from itertools import pairwise

from hyena.bench.goals import Goal, Measure, Measured, Results, faster, growth, ratio, times_of
from hyena.bench.model.cases import DOUBLING, LONG, LONGEST, TODAY, TRAINED, Suite

GIB = 1 << 30
"""Bytes."""

_DNA = "8 layers × 256, {}"


def goals(suite: Suite) -> list[Goal]:
    """Those of a suite, in order."""
    rows: list[Goal] = []

    def at_most(number: int, work: str, where: str, target: float, measure: Measure) -> None:
        rows.append(Goal(number, work, where, target, False, measure))

    if suite == "memory":
        for number, work, limits in (
            (1, "forward", ((LONG, 0.9), (LONGEST, 4.0))),
            (2, "training", ((LONG, 2.3), (LONGEST, 15.0))),
        ):
            text = _DNA.format(f"{work}, peak of the process, GiB")
            for length, target in limits:
                measure = peak(f"{work}-of-{length}", "ours")
                at_most(number, text, f"L={length}", target, measure)
        text = _DNA.format("forward, time against the older build")
        at_most(3, text, f"L={LONG}", 1.05, longer(f"forward-of-{LONG}", "ours", "ours" + TODAY))
        text = _DNA.format("forward, worst time(2L)/time(L)")
        pairs = [("forward-by-length", *pair) for pair in pairwise(DOUBLING)]
        at_most(4, text, f"L={DOUBLING[0]} … {DOUBLING[-1]}", 2.3, growth(pairs))
        for layout, what in (("padded", "one padded column"), ("documents", "10 documents")):
            text = (
                f"2 layers × 64, hyena,attention, forward, {what}, memory against the plain input"
            )
            at_most(5, text, "B=2, L=16384", 1.3, more("hybrid-by-layout", layout, "plain"))
        text = "125M, 4096 tokens after 4096 that a state has read, time against a fresh prefill"
        at_most(6, text, "batch 1", 1.3, longer("after-4096-tokens", "continued", "fresh"))
        text = _DNA.format("prompt and 100 tokens, {}")
        measure = peak("a-million-tokens", "prompt")
        at_most(7, text.format("peak of the process, GiB"), "L=1000000", 6.0, measure)
        measure = longer("a-million-tokens", "prompt", "forward")
        at_most(7, text.format("time against the forward"), "L=1000000", 1.2, measure)
        for what, size, target in (("one line", "200 MB", 0.5), ("documents", "2 GB", 0.4)):
            measure = peak(f"prepare-of-{what.replace(' ', '-')}", "ours")
            at_most(8, f"prepare, {what}, peak of the process, GiB", size, target, measure)
        return rows
    text, case = "4 layers × 128, 50,257 tokens, a step, {}", "50257-tokens-at-16384"
    at_most(1, text.format("peak of the process, GiB"), "L=16384", 1.2, peak(case, "ours"))
    measure = longer(case, "ours", "ours" + TODAY)
    at_most(2, text.format("time against the older build"), "L=16384", 1.0, measure)
    for length, target in zip(TRAINED, (2.6, 6.5, 22.0), strict=True):
        text = "4 layers × 256, bytes, bfloat16, a step, Hyena against attention"
        measure = faster(f"bytes-at-{length}", "hyena", "attention")
        rows.append(Goal(3, text, f"L={length}", target, True, measure))
    text = "125M, a step, bfloat16 autocast against float32"
    rows.append(Goal(4, text, "L=2048", 2.1, True, faster("125M-at-2048", "bf16", "float32")))
    return rows


def peak(key: str, name: str) -> Measure:
    """GiB of the process of a contender."""

    def measure(results: Results) -> Measured | None:
        found = results.get(key, {}).get("peak", {})
        return Measured(found[name] / GIB) if name in found else None

    return measure


def more(key: str, name: str, other: str, field: str = "added") -> Measure:
    """How many times the memory of another, each beyond what its process had before, or with
    "peak" as field that of the whole process."""

    def measure(results: Results) -> Measured | None:
        found = results.get(key, {}).get(field, {})
        if not (found.get(name) and found.get(other)):
            return None
        return Measured(found[name] / found[other])

    return measure


def longer(key: str, name: str, other: str) -> Measure:
    """How many times the time of another."""

    def measure(results: Results) -> Measured | None:
        times = times_of(results, key)
        if not {name, other} <= set(times):
            return None
        return ratio(times, name, other)._replace(note="")

    return measure
