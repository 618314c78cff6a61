"""The cases of whole models: what is done, at which sizes, against what.

Sizes: B batch, L length, T tokens that are generated.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

Suite = Literal["memory", "train"]
Kind = Literal[
    "forward",
    "train",
    "prompt",
    "continued",
    "prefill",
    "prepare",
    "build",
    "score",
    "public_score",
    "embed",
    "sequences",
]

TODAY = "_today"
"""Ends the name of a contender that an older build is, at the same work."""

LONG, LONGEST, DOUBLED = 131_072, 1_000_002, 1 << 20
DOUBLING = tuple(LONG << i for i in range(4))  # 131,072 … 1,048,576
HYBRID_LENGTH, CONTINUED = 16_384, 4096
TRAINED = (2048, 8192, 32_768)
PRESET = "125M"

_DNA: dict[str, Any] = {"width": 256, "layers": 8, "vocab_size": 16}
_TEXT: dict[str, Any] = {"width": 128, "layers": 4, "vocab_size": 50_257}
_HYBRID: dict[str, Any] = {"width": 64, "layers": 2, "mixers": "hyena,attention"}
_BYTES: dict[str, Any] = {"width": 256, "layers": 4}


@dataclass(frozen=True)
class Work:
    """What one process does; see `hyena.bench.model.work`, and for the last four kinds
    `hyena.bench.genomes.work`."""

    work: Kind
    length: int
    model: Mapping[str, Any] = field(default_factory=dict)
    """Settings of `hyena.ModelConfig` besides its length, or what is changed of the preset."""
    preset: str | None = None
    batch: int = 1
    tokens: int = 0
    layout: Literal["plain", "padded", "documents"] = "plain"
    bf16: bool = False
    """Under bfloat16 autocast."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """Of the weights; only the last four kinds know others."""
    checkpointing: bool = False
    separator: str | None = None
    calls: int = 1
    """How often it is done in a process."""
    warm: int = 0
    """How many of these, the first ones, are not timed."""
    vocabulary: int = 257


@dataclass(frozen=True)
class Case:
    """Works that are compared, each in processes of its own that take turns."""

    name: str
    works: Mapping[str, Work]
    today: tuple[str, ...] = ()
    """Those that an older build does too, if one is given."""
    repeats: int = 3
    """Processes of each."""
    truth: Work | None = None
    """Gives the numbers that those of the works are compared with."""

    @property
    def key(self) -> str:
        """The name of the file of its results."""
        return self.name.replace(" ", "-").replace(",", "")

    @property
    def contenders(self) -> tuple[str, ...]:
        """The names of the works, and of those of an older build."""
        return (*self.works, *(name + TODAY for name in self.today))

    def __str__(self) -> str:
        return self.name

    def record(self) -> dict[str, Any]:
        """As it is written to JSON."""
        return {**asdict(self), "contenders": list(self.contenders)}


def memory() -> list[Case]:
    """Those of `hyena bench memory`, the quick ones first."""
    dna: dict[str, Any] = {"model": _DNA, "vocabulary": 16}
    forward = Work("forward", LONG, **dna)
    step = replace(forward, work="train", checkpointing=True)
    hybrid = Work("forward", HYBRID_LENGTH, _HYBRID, batch=2)
    block = {"preset": PRESET, "vocabulary": 50_257, "calls": 2, "warm": 1}
    line = Work("prepare", 200_000_000)
    return [
        Case(
            "hybrid by layout",
            {name: replace(hybrid, layout=name) for name in ("plain", "padded", "documents")},
        ),
        Case("forward of 131072", {"ours": forward}, ("ours",)),
        Case("training of 131072", {"ours": step}, ("ours",)),
        Case(
            "after 4096 tokens",
            {
                "continued": Work("continued", CONTINUED, **block),  # type: ignore[arg-type]
                "fresh": Work("prefill", CONTINUED, **block),  # type: ignore[arg-type]
            },
        ),
        Case("prepare of one line", {"ours": line}, ("ours",), 1),
        Case(
            "prepare of documents",
            {"ours": replace(line, length=2_000_000_000, separator="\n\n")},
            repeats=1,
        ),
        Case(
            "forward by length",
            {f"L={length}": replace(forward, length=length) for length in DOUBLING},
        ),
        Case(
            "a million tokens",
            {
                "forward": replace(forward, length=1_000_000),
                "prompt": replace(forward, work="prompt", length=1_000_000, tokens=100),
            },
        ),
        Case("forward of 1000002", {"ours": replace(forward, length=LONGEST)}, repeats=1),
        Case("training of 1000002", {"ours": replace(step, length=LONGEST)}, repeats=1),
    ]


def train() -> list[Case]:
    """Those of `hyena bench train`."""
    again: dict[str, Any] = {"calls": 3, "warm": 1}
    text = Work("train", HYBRID_LENGTH, _TEXT, vocabulary=50_257, **again)
    bytes = Work("train", 2048, _BYTES, bf16=True, **again)
    preset = Work("train", 2048, preset=PRESET, vocabulary=50_257, **again)
    attention = {"mixers": "attention"}
    cases = [Case("50257 tokens at 16384", {"ours": text}, ("ours",))]
    for length in TRAINED:
        ours = replace(bytes, length=length)
        rival = replace(ours, model={**_BYTES, **attention})
        cases.append(Case(f"bytes at {length}", {"hyena": ours, "attention": rival}))
    whole = {
        "bf16": replace(preset, bf16=True),
        "float32": preset,
        "checkpointed": replace(preset, checkpointing=True),
        "attention": replace(preset, model=attention),
    }
    return [*cases, Case("125M at 2048", whole)]


def chosen(suite: Suite, *, small: bool = False, today: bool = False) -> list[Case]:
    """The cases of a suite.

    Args: whether to make all small, to see that they run; whether there is an older build.
    """
    cases = memory() if suite == "memory" else train()
    if not today:
        cases = [replace(case, today=()) for case in cases]
    return [_small(case) for case in cases] if small else cases


def _small(case: Case) -> Case:
    """The same work at sizes of a test, once."""
    works = {}
    for name, work in case.works.items():
        few = max(32, work.length >> 12)
        model = {**dict(work.model), "width": 16, "layers": 2}
        if work.vocabulary > 257:
            model["vocab_size"] = 300
        length = 20_000 if work.work == "prepare" else few
        works[name] = replace(
            work,
            length=length,
            model=model,
            preset=None,
            vocabulary=min(work.vocabulary, 300),
            tokens=min(work.tokens, 2),
        )
    return replace(case, name=f"small {case.name}", works=works, repeats=1)
