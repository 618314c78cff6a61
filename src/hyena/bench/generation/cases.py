"""The cases of generation: what is measured, at which sizes, against which baselines.

Sizes: B batch, D width, P context, T tokens that are generated.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

Kind = Literal["planned", "grown", "growth", "positions", "model", "weights", "quantized", "modes"]

KINDS: dict[Kind, str] = {
    "planned": "a mixer, T tokens after a prefill of the context",
    "grown": "a mixer, token by token from the first to the context",
    "growth": "exact generation of L tokens after one, for L that double",
    "positions": "a recurrent filter, T tokens at positions far apart",
    "model": "a whole model, T tokens at the context",
    "weights": "a whole model against reading its weights",
    "quantized": "a whole model with weights of fewer bits",
}

CONTENDERS = {
    "hyena": "Hyena, exact",
    "distilled": "Hyena, recurrent filter",
    "attention": "attention, KV cache",
    "dot": "Hyena, cached dot products",
    "full": "Hyena, recomputed",
    "hyena_bf16": "Hyena, exact, bf16 weights",
    "hyena_int8": "Hyena, exact, int8 weights by torchao",
    "hyena_int8_dynamic": "Hyena, exact, int8 weights and inputs by torchao",
    "read_sum": "reading the weights, sum",
    "read_mv": "reading the weights, matrix-vector product",
    "read_kernel": "reading the weights, the kernel's product",
}
"""Ours and the baselines, and what a table calls them."""

READS = "read_sum", "read_mv", "read_kernel"
"""Ways to read as many bytes as the weights have, of which the quickest is a token's limit."""

BASELINES = "attention", "dot", "full", *READS
"""The contenders that are not ours: one that is wrong is left out, and its row goes on."""

TOKENS = 256  # T
WIDTH, LAYERS = 256, 6
CONTEXTS = (2048, 8192, 16384, 65536)
BATCHED_CONTEXTS, BATCH = (8192, 65536), 8
DOUBLING = tuple(1 << a for a in range(12, 17))  # 4k … 64k
POSITIONS = (1 << 10, 1 << 16, 1 << 20)
RECOMPUTED = 2048  # the context at which all is computed anew for each token
SUMMED = 16384  # up to this context cached dot products are run for every token
PRESET, PRESET_CONTEXT = "125M", 1024
QUANTIZED = "hyena", "hyena_bf16", "hyena_int8", "hyena_int8_dynamic"
LARGE = {1: (2048, 8192, 16384, 65536), 8: (2048, 16384)}
"""Contexts of the preset's cases by batch."""
MODAL_POSITIONS, MODAL_TOKENS = (1 << 13, 1 << 16, 1 << 20), 1024


@dataclass(frozen=True)
class Case:
    """Contenders that generate in turns."""

    kind: Kind
    contenders: tuple[str, ...]
    batch: int = 1
    context: int = 0
    """P; of "growth" and "positions", which have one for each contender, the largest."""
    tokens: int = TOKENS
    width: int = WIDTH
    layers: int = 1
    preset: str | None = None
    """A model of `hyena.model.PRESETS`, in place of width and layers."""
    repeats: int = 5

    @property
    def key(self) -> str:
        """The name of the case and of its file."""
        what = f"D{self.width}" if self.preset is None else self.preset
        return f"{self.kind}-{what}-B{self.batch}-P{self.context}"

    def __str__(self) -> str:
        what = f"D={self.width}" if self.preset is None else self.preset
        return f"{self.kind}, {what}, batch {self.batch}, context {self.context}"


def key(kind: Kind, context: int, batch: int = 1, preset: str | None = None) -> str:
    """The key of a case of the default sizes."""
    return Case(kind, (), batch, context, preset=preset).key


def cases(*, large: bool = False) -> list[Case]:
    """What the goals need and other contexts beside; with ``large`` the preset at long ones too."""
    common = ("hyena", "distilled", "attention")
    found = [Case("planned", (*common, "dot"), 1, P) for P in CONTEXTS]
    found += [Case("planned", common, BATCH, P) for P in BATCHED_CONTEXTS]
    for P in CONTEXTS:
        names = (*common, "dot", "full") if P == RECOMPUTED else (*common, "dot")
        found.append(Case("grown", names, 1, P, repeats=3 if P <= SUMMED else 2))
    for P in BATCHED_CONTEXTS:
        found.append(Case("grown", ("hyena", "attention"), BATCH, P, repeats=2))
    lengths = tuple(f"L={L}" for L in DOUBLING)
    found.append(Case("growth", lengths, 1, DOUBLING[-1], repeats=2))
    places = tuple(f"t={t}" for t in POSITIONS)
    found.append(Case("positions", places, 1, POSITIONS[-1], repeats=9))
    for B in (1, BATCH):
        for P in BATCHED_CONTEXTS:
            found.append(Case("model", common, B, P, layers=LAYERS, repeats=3))
    found.append(
        Case(
            "weights", ("hyena", "hyena_bf16", *READS), 1, PRESET_CONTEXT, preset=PRESET, repeats=3
        )
    )
    found.append(Case("quantized", QUANTIZED, 1, PRESET_CONTEXT, preset=PRESET, repeats=3))
    if large:
        for B, some in LARGE.items():
            pair = ("hyena", "attention")
            found += [Case("model", pair, B, P, preset=PRESET, repeats=2) for P in some]
    return found


def quick() -> list[Case]:
    """A little of everything, in seconds: to see that the benchmark runs."""
    common = ("hyena", "distilled", "attention")
    small = partial(Case, tokens=80, width=64, repeats=2)
    return [
        small("planned", (*common, "dot"), 2, 100),
        small("grown", (*common, "dot", "full"), 1, 200),
        small("growth", ("L=70", "L=140"), 1, 140),
        small("positions", ("t=1", "t=300"), 1, 300),
        small("model", common, 2, 100, layers=2),
        small("weights", ("hyena", "hyena_bf16", *READS), 1, 100, layers=2),
        small("quantized", QUANTIZED, 1, 100, layers=2),
    ]


def modal(*, small: bool = False) -> Case:
    """A hyena-li operator at positions far apart, which is no part of this benchmark but of that of
    genomes; with ``small``, in seconds."""
    positions, tokens = ((1, 300), 20) if small else (MODAL_POSITIONS, MODAL_TOKENS)
    names = tuple(f"t={t}" for t in positions)
    width, repeats = (8, 2) if small else (WIDTH, 9)
    return Case("modes", names, 1, positions[-1], tokens, width, repeats=repeats)


def chosen(contexts: Sequence[int] | None, *, small: bool, large: bool) -> list[Case]:
    """The cases that are asked for.

    Args: only cases of these contexts; a little of everything; the large model at long contexts
        too.
    Raises: ValueError if there are none.
    """
    found = [
        case
        for case in (quick() if small else cases(large=large))
        if contexts is None or case.context in contexts
    ]
    if not found:
        raise ValueError(
            f"no row of the suite generate has lengths {json.dumps(contexts)}; leave them out"
        )
    return found
