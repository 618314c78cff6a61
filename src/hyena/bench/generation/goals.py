"""The goals of generation, each with how it is read off the results."""

from itertools import pairwise

from hyena.bench.generation.cases import (
    BATCH,
    CONTEXTS,
    DOUBLING,
    POSITIONS,
    PRESET,
    PRESET_CONTEXT,
    READS,
    RECOMPUTED,
    SUMMED,
    Kind,
    key,
)
from hyena.bench.goals import Goal, Measure, Measured, Results, faster, growth, ratio, times_of

_LONG, _SHORT = 65536, 8192
_WEIGHTS = key("weights", PRESET_CONTEXT, preset=PRESET)


def goals() -> list[Goal]:
    """All of them, in order. Times are means over tokens, tiles included."""
    rows: list[Goal] = []

    def add(number: int, text: str, where: str, target: float, measure: Measure) -> None:
        rows.append(Goal(number, text, where, target, number not in (5, 6, 7), measure))

    ways: dict[Kind, str] = {"planned": "after a prefill", "grown": "token by token"}
    text = "mixer, time per token, exact against attention with a KV cache"
    for number, context, target in ((1, _LONG, 20.0), (2, _SHORT, 4.0)):
        for batch in (1, BATCH):
            for kind, how in ways.items():
                where = f"context {context}, batch {batch}, {how}"
                measure = faster(key(kind, context, batch), "hyena", "attention")
                add(number, text, where, target, measure)
    text = "mixer, exact, tokens after one, against cached dot products in O(L)"
    add(3, text, f"{SUMMED} tokens", 10.0, faster(key("grown", SUMMED), "hyena", "dot"))
    text = "mixer, exact, time per token, against the whole mixer recomputed"
    measure = faster(key("grown", RECOMPUTED), "hyena", "full")
    add(4, text, f"length {RECOMPUTED}", 100.0, measure)
    text = "mixer, exact, tokens after one, worst time(2L)/time(L)"
    pairs = [(key("growth", DOUBLING[-1]), *pair) for pair in pairwise(DOUBLING)]
    # Times are a token: twice of them is of twice as many.
    add(5, text, f"L={DOUBLING[0]} … {DOUBLING[-1]}", 2.6, growth(pairs, factor=2))
    text = "mixer, bytes of the exact state against the KV cache"
    add(6, text, f"after a prefill of {CONTEXTS[-1]}", 0.05, _share_of_cache)
    text = "recurrent filter, {} at one position against another"
    where = "positions " + ", ".join(map(str, POSITIONS))
    add(7, text.format("time per token"), where, 1.1, _flat_time)
    add(7, text.format("bytes of the state"), where, 1.1, _flat_memory)
    text = "tokens/s with a recurrent filter against exact"
    ways = {**{kind: f"mixer, {how}" for kind, how in ways.items()}, "model": "whole model"}
    for kind, how in ways.items():
        measure = faster(key(kind, _SHORT), "distilled", "hyena")
        add(8, text, f"context {_SHORT}, {how}", 1.0, measure)
    text = "whole model, float32, tokens/s against the limit of reading its weights"
    add(9, text, f"{PRESET}, batch 1", 0.8, _share_of_limit)
    text = "whole model, tokens/s with bf16 weights against float32"
    add(10, text, f"{PRESET}, batch 1", 1.7, faster(_WEIGHTS, "hyena_bf16", "hyena"))
    return rows


def _share_of_limit(results: Results) -> Measured | None:
    """Against the fastest of the reads that were measured."""
    reads = [name for name in READS if name in times_of(results, _WEIGHTS)]
    return faster(_WEIGHTS, "hyena", *reads)(results) if reads else None


def _share_of_cache(results: Results) -> Measured | None:
    held = results.get(key("planned", CONTEXTS[-1]), {}).get("held", {})
    if not {"hyena", "attention"} <= set(held):
        return None
    return Measured(held["hyena"] / held["attention"])


def _flat_time(results: Results) -> Measured | None:
    times = times_of(results, key("positions", POSITIONS[-1]))
    if len(times) < len(POSITIONS):
        return None
    slow, fast = (choose(times, key=lambda name: times[name]["median"]) for choose in (max, min))
    return ratio(times, slow, fast)._replace(note=f"{slow} to {fast}")


def _flat_memory(results: Results) -> Measured | None:
    held = results.get(key("positions", POSITIONS[-1]), {}).get("held", {})
    return Measured(max(held.values()) / min(held.values())) if held else None
