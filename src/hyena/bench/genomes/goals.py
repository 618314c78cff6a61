"""The goals of genomics, each with how it is read off the results."""

import math

from hyena.bench.convolution.cases import STRIPED, striped
from hyena.bench.generation.cases import MODAL_POSITIONS, WIDTH, modal
from hyena.bench.genomes.cases import EMBEDDED, LONGEST, OF_LAYERS, PREPARED, SCORED
from hyena.bench.goals import Goal, Measure, Measured, Results, faster, ratio, times_of
from hyena.bench.model.goals import more, peak

_SCORES, _FILES, _LAYERS = f"score-of-{SCORED}", "preparing-48-Mb", "4-layers-of-Evo-2-7B"
_DIRECTIONS = {"forward": "forward", "training": "forward + backward"}


def goals() -> list[Goal]:
    """All of them, in order."""
    rows: list[Goal] = []

    def add(
        number: int, work: str, where: str, target: float, measure: Measure, unit: str = ""
    ) -> None:
        """With a unit at least, without one at most."""
        rows.append(Goal(number, work, where, target, bool(unit), measure, unit))

    text, where = "HyenaDNA medium, a score, {}", f"L={SCORED}"
    measure = faster(_SCORES, "ours", "public")
    add(1, text.format("float32 against the public recipe"), where, 2.5, measure, "×")
    measure = faster(_SCORES, "ours_bf16", "public", "public_bf16")
    add(2, text.format("bfloat16 against the faster public recipe"), where, 4.0, measure, "×")
    measure = more(_SCORES, "ours", "public", "peak")
    add(3, text.format("float32, peak against the public recipe's"), where, 0.25, measure)
    for number, (direction, what) in enumerate(_DIRECTIONS.items(), 4):
        for case in striped():
            if case.direction == direction:
                work = f"{case.work} between its projections, {what}, against plain PyTorch"
                measure = faster(case.key, *STRIPED[case.work])
                add(number, work, f"D={case.width}, L={case.length}", 3.0, measure, "×")
    text = f"hyena-li, D={WIDTH}, {{}}"
    where = "positions " + ", ".join(map(str, MODAL_POSITIONS))
    add(6, text.format("relative L2 error of the state after a prompt"), where, 1e-5, _state)
    add(6, text.format("time per token at one position against another"), where, 1.05, _flat)
    text, where = "hyena prepare of packed FASTA, {}", f"{PREPARED / 1e6:.0f} Mb"
    add(7, text.format("bases a second"), where, 50.0, _million_bases_a_second, " MB/s")
    add(7, text.format("peak of the process, MiB"), where, 300.0, _peak_in_mib)
    text = "{}, peak of the process, GiB"
    measure = peak(f"vectors-of-{EMBEDDED}", "ours")
    add(8, text.format("HyenaDNA large, a vector"), f"L={EMBEDDED}", 4.0, measure)
    measure = peak(_LAYERS, "ours")
    work = "4 layers of Evo 2 7B at full width, bfloat16, a score"
    add(9, text.format(work), f"L={OF_LAYERS}", 8.0, measure)
    measure = peak(f"score-of-{LONGEST}", "ours")
    add(10, text.format("HyenaDNA large, a score"), f"L={LONGEST}", 4.0, measure)
    return rows


def _state(results: Results) -> Measured | None:
    """The worst of the positions."""
    found = results.get(modal().key, {}).get("state_errors", {})
    if set(found) != set(modal().contenders):
        return None
    each = (Measured(error, note=name) for name, error in found.items())
    return max(each, key=lambda one: math.inf if math.isnan(one.value) else one.value)


def _flat(results: Results) -> Measured | None:
    """The slowest position against the quickest."""
    times = times_of(results, modal().key)
    if set(times) != set(modal().contenders):
        return None
    slow, fast = (choose(times, key=lambda name: times[name]["median"]) for choose in (max, min))
    return ratio(times, slow, fast)._replace(note=f"{slow} to {fast}")


def _million_bases_a_second(results: Results) -> Measured | None:
    its = times_of(results, _FILES).get("ours")
    if its is None:
        return None
    return Measured(*(PREPARED / 1e6 / its[name] for name in ("median", "upper", "lower")))


def _peak_in_mib(results: Results) -> Measured | None:
    found = peak(_FILES, "ours")(results)
    return None if found is None else found.scaled(1024)
