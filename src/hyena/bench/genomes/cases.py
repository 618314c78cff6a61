"""The cases of genomics: those of the other benchmarks' kinds, at its sizes.

Sizes: L bases.
"""

from dataclasses import replace

from hyena.bench import convolution, generation, model
from hyena.bench.model.cases import Work

Case = convolution.cases.Case | generation.cases.Case | model.cases.Case
"""Measured as its kind is; see `hyena.bench.genomes.run`."""

MEDIUM, LARGE, EVO = "hyenadna-medium-160k", "hyenadna-large-1m", "evo2-7b-base"
SCORED, LONGEST, EMBEDDED = 131_072, 1_000_002, 1_000_000
PREPARED = 48_000_000
LAYERS, OF_LAYERS = 4, 8192  # layers of the large model that run, and bases that they score


def cases() -> list[Case]:
    """All of them, those that take longest last."""
    ours = Work("score", SCORED, preset=MEDIUM)
    public = replace(ours, work="public_score")
    layers = Work("score", OF_LAYERS, {"layers": LAYERS}, EVO, dtype="bfloat16")
    return [
        *convolution.cases.striped(),
        generation.cases.modal(),
        model.cases.Case("preparing 48 Mb", {"ours": Work("sequences", PREPARED)}),
        model.cases.Case(
            f"score of {SCORED}",
            {
                "ours": ours,
                "ours_bf16": replace(ours, dtype="bfloat16"),
                "public": public,
                "public_bf16": replace(public, bf16=True),
            },
            truth=replace(public, dtype="float64"),
        ),
        model.cases.Case("4 layers of Evo 2 7B", {"ours": layers}, repeats=1),
        model.cases.Case(
            f"vectors of {EMBEDDED}", {"ours": Work("embed", EMBEDDED, preset=LARGE)}, repeats=1
        ),
        model.cases.Case(
            f"score of {LONGEST}", {"ours": Work("score", LONGEST, preset=LARGE)}, repeats=1
        ),
    ]


def quick() -> list[Case]:
    """The same work in seconds, to see that it runs."""
    found: list[Case] = [
        *convolution.cases.striped(small=True),
        generation.cases.modal(small=True),
    ]
    whole = [case for case in cases() if isinstance(case, model.cases.Case)]
    for case in whole:
        works = {name: _small(work) for name, work in case.works.items()}
        truth = None if case.truth is None else _small(case.truth)
        name = f"small {case.name}"
        found.append(replace(case, name=name, works=works, truth=truth, repeats=1))
    return found


def chosen(*, small: bool = False) -> list[Case]:
    """The cases, or the small ones."""
    return quick() if small else cases()


def _small(work: Work) -> Work:
    if work.preset is None:
        return replace(work, length=20_000)
    # As many channels as the large model has groups of them, and heads of 128.
    sizes = {"width": 256, "mlp_width": 32} if work.preset == EVO else {"width": 16, "layers": 2}
    return replace(work, length=work.length >> 8, model={**work.model, **sizes})
