"""The cases of the convolution: which work is measured, at which sizes, against which baselines.

Sizes: B batch, D width, L length.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import Any, Literal

from hyena.bench.allocator import Allocator

Work = Literal[
    "gated_conv",
    "operator",
    "operator_bf16",
    "two_lengths",
    "error",
    "hyena-se",
    "hyena-mr",
    "hyena-li",
]
Direction = Literal["forward", "training"]
Kind = tuple[Work, Direction, Allocator]
Mode = Literal["a", "b", "c"]
Suite = Literal["goals", "sweep", "quick"]

MODES: dict[Mode, str] = {
    "a": "fresh tensors, default allocator",
    "b": "fresh tensors, tuned allocator",
    "c": "the operator with workspaces of its own, default allocator",
}

CONTENDERS = {
    "ours": "ours",
    "ours_out": "ours, own workspaces",
    "ours_recomputed": "ours, spectrum recomputed",
    "torch": "chunked torch",
    "public": "public recipe",
    "conv1d": "depthwise conv1d",
    "sdpa": "SDPA float32",
    "sdpa_bf16": "SDPA bfloat16",
    "block": "attention block",
    "block_autocast": "attention block, bf16 autocast",
    "block_bf16": "attention block, bf16 weights",
}
"""Ours and the baselines, and what a table calls them; `hyena.bench.convolution.measure` builds
them."""

STRIPED: dict[Work, tuple[str, ...]] = {
    "hyena-se": ("ours", "conv1d", "public"),
    "hyena-mr": ("ours", "conv1d", "public"),
    "hyena-li": ("ours", "public"),
}
"""The operators of StripedHyena 2 between their projections, and the contenders of each."""

# Contenders by work, direction and allocator. Attention's time does not hang on the allocator, so
# it stands beside one of them only.
_BF16: Kind = ("operator_bf16", "forward", "default")
_FORWARD = ("ours", "ours_recomputed", "torch", "public")
_LINEUP: dict[Kind, tuple[str, ...]] = {
    ("gated_conv", "forward", "default"): (*_FORWARD, "sdpa", "sdpa_bf16"),
    ("gated_conv", "forward", "tuned"): _FORWARD,
    ("gated_conv", "training", "default"): ("ours", "torch", "public", "sdpa", "sdpa_bf16"),
    ("gated_conv", "training", "tuned"): ("ours", "torch", "public"),
    ("operator", "forward", "default"): ("ours_out", "torch", "public", "block"),
    ("operator", "forward", "tuned"): ("ours", "torch", "public"),
    ("operator", "training", "default"): ("ours", "torch", "public", "block"),
    ("operator", "training", "tuned"): ("ours", "torch", "public", "block"),
    _BF16: ("ours_out", "public", "block_autocast", "block_bf16"),
    ("operator_bf16", "training", "tuned"): ("ours", "public", "block_autocast", "block_bf16"),
}

# On another device than the CPU glibc allocates nothing, and ours is PyTorch's FFT. Attention is in
# bfloat16, for which PyTorch has FlashAttention.
_LINEUP_ON_DEVICE: dict[Kind, tuple[str, ...]] = {
    ("gated_conv", "forward", "default"): ("ours", "ours_recomputed", "public", "sdpa_bf16"),
    ("gated_conv", "training", "default"): ("ours", "public", "sdpa_bf16"),
    ("operator", "forward", "default"): ("ours", "public"),
    ("operator", "training", "default"): ("ours", "public"),
    _BF16: ("ours", "public", "block_autocast", "block_bf16"),
    ("operator_bf16", "training", "default"): ("ours", "public", "block_autocast", "block_bf16"),
}

# Lengths of the goals.
CONV_LENGTHS = (2048, 8192, 65536)
EVERY_LENGTH = tuple(1 << a for a in range(9, 18))  # 512 … 128k
GROWTH_LENGTHS = tuple(1 << a for a in range(10, 21))  # 1k … 1M
ODD_LENGTHS = ((1000, 1024), (10007, 16384), (100003, 131072))
OPERATOR_SIZES = ((256, 2048), (256, 8192), (256, 65536), (768, 8192), (64, 65536))
CONV_WIDTH, GROWTH_WIDTH, ERROR_WIDTH, ERROR_BATCH = 256, 64, 64, 2

STRIPED_SIZE = (1024, 8192)  # width and length

DEVICE_WIDTHS, DEVICE_LENGTHS = (64, 768), tuple(1 << a for a in range(11, 21))  # 2k … 1M

# Seconds a call that the sweep waits for; the goals wait as long as it takes.
_PATIENCE = 5.0
# The allocators of the goals: that of inference and that of training. The whole operator is swept
# under them, and up to this length.
_UNDER: dict[Direction, Allocator] = {"forward": "default", "training": "tuned"}
_LONGEST_OPERATOR = 1 << 17
# On another device the whole operator is measured up to so many numbers D·L, since its truth is
# computed on the CPU: 1M at width 64.
_LARGEST_OPERATOR = 1 << 26
# Peak memory is measured of these, at powers of four: each figure needs a process of its own.
_MEMORY = ("ours", "torch", "public", "sdpa")

SWEEP_WIDTHS = (64, 256)
SWEEP_LENGTHS = (*(1 << a for a in range(8, 21)), *(odd for odd, _ in ODD_LENGTHS))


@dataclass(frozen=True)
class Case:
    """Contenders that are timed in the same rounds on the same work."""

    suite: Suite
    work: Work
    direction: Direction
    allocator: Allocator
    width: int
    length: int
    contenders: tuple[str, ...]
    beside: int | None = None
    """Of "two_lengths": the second length, timed in the same rounds as the first."""
    batch: int = 1
    memory: tuple[str, ...] = ()
    """The contenders whose peak memory is measured, each in a process of its own."""
    seconds: float = 4.0
    """Budget of the samples."""
    patience: float | None = None
    """Seconds that a call may be expected to take; a contender that needs more is left out."""
    device: str = "cpu"
    """Where the tensors are, as PyTorch calls it."""

    @property
    def key(self) -> str:
        """The name of the case and of its file."""
        lengths = f"L{self.length}" + ("" if self.beside is None else f"-L{self.beside}")
        where = f"D{self.width}-{lengths}-{self.allocator}"
        return f"{self.suite}-{self.work}-{self.direction}-{where}"

    def mode(self, contender: str) -> Mode:
        """The mode that a contender's time is of."""
        if contender == "ours_out":
            return "c"
        return "b" if self.allocator == "tuned" else "a"

    def __str__(self) -> str:
        lengths = f"L={self.length}" + ("" if self.beside is None else f" and {self.beside}")
        what = f"{self.work} {self.direction}"
        where = f"{self.allocator} allocator" if self.device == "cpu" else self.device
        return f"{what}, D={self.width}, {lengths}, {where}"


def is_ours(name: str) -> bool:
    """Whether a contender is ours, at one of several lengths or otherwise, and no baseline."""
    return name.startswith(("ours", "L="))


def striped(*, small: bool = False) -> list[Case]:
    """The operators of StripedHyena 2 between their projections; with ``small``, in seconds."""
    suite: Suite = "quick" if small else "goals"
    sizes = (32, 160) if small else STRIPED_SIZE
    seconds = 0.02 if small else 8.0
    return [
        Case(suite, work, direction, allocator, *sizes, names, seconds=seconds)
        for work, names in STRIPED.items()
        for direction, allocator in _UNDER.items()
    ]


def goals() -> list[Case]:
    """What the goals need, and the modes beside theirs."""
    D, public, block = CONV_WIDTH, ("ours", "torch", "public"), ("ours", "public", "block")
    some, every = ([(D, L) for L in lengths] for lengths in (CONV_LENGTHS, EVERY_LENGTH))
    trained = OPERATOR_SIZES[:2]

    def of(kind: Kind, sizes: Iterable[tuple[int, int]], names: tuple[str, ...]) -> list[Case]:
        return [Case("goals", *kind, width, length, names) for width, length in sizes]

    return [
        *of(("gated_conv", "forward", "default"), some, (*public, "sdpa")),
        *of(("gated_conv", "training", "default"), some, public),
        *of(("operator", "forward", "default"), OPERATOR_SIZES, ("ours_out", "public", "block")),
        *of(("operator", "training", "default"), trained, block),
        *of(_BF16, [(768, 8192)], _LINEUP[_BF16]),
        *(_two_lengths("goals", "forward", D, *pair) for pair in ODD_LENGTHS),
        *(_error("goals", ERROR_WIDTH, length) for length in EVERY_LENGTH),
        *of(("gated_conv", "forward", "tuned"), every, public),
        *of(("gated_conv", "training", "tuned"), every, public),
        *of(("operator", "forward", "tuned"), OPERATOR_SIZES, ("ours", "public")),
        *of(("operator", "training", "tuned"), trained, block),
        *(_two_lengths("goals", "training", D, *pair) for pair in ODD_LENGTHS),
        *(_two_lengths("goals", "training", GROWTH_WIDTH, *x) for x in pairwise(GROWTH_LENGTHS)),
    ]


def sweep(
    widths: Sequence[int] = SWEEP_WIDTHS, lengths: Sequence[int] = SWEEP_LENGTHS
) -> list[Case]:
    """Every contender over all lengths, shortest first, as far as patience and memory go."""
    cases = []
    for kind, contenders in _LINEUP.items():
        work, direction, allocator = kind
        conv = work == "gated_conv"
        if not conv and allocator != _UNDER[direction]:
            continue
        peaks = tuple(name for name in _MEMORY if name in contenders)
        for width, length in product(widths, sorted(lengths)):
            if not conv and length > _LONGEST_OPERATOR:
                continue
            case = Case("sweep", *kind, width, length, contenders, seconds=2.0, patience=_PATIENCE)
            if conv and allocator == "default" and width == max(widths) and _is_power_of_4(length):
                case = replace(case, memory=peaks)
            cases.append(case)
    return cases


def on_device(
    device: str,
    suite: Suite = "goals",
    widths: Sequence[int] = DEVICE_WIDTHS,
    lengths: Sequence[int] = DEVICE_LENGTHS,
) -> list[Case]:
    """The contenders of another device over all lengths, as far as patience and memory go, and the
    errors of the shorter ones."""
    cases = [
        Case(suite, *kind, width, length, names, memory=names, seconds=2.0, patience=_PATIENCE)
        for (kind, names), width, length in product(
            _LINEUP_ON_DEVICE.items(), widths, sorted(lengths)
        )
        if kind[0] == "gated_conv" or width * length <= _LARGEST_OPERATOR
    ]
    errors = [_error(suite, ERROR_WIDTH, length) for length in lengths if length in EVERY_LENGTH]
    cases += [replace(case, contenders=("ours", "public")) for case in errors]
    return [replace(case, device=device) for case in cases]


def quick(
    widths: Sequence[int] = (8,), lengths: Sequence[int] = (64, 100), device: str = "cpu"
) -> list[Case]:
    """A little of everything, in seconds: to see that the benchmark runs."""
    cases = []
    lineup = _LINEUP if device == "cpu" else _LINEUP_ON_DEVICE
    for width in widths:
        for kind, contenders in lineup.items():
            cases += [Case("quick", *kind, width, length, contenders) for length in lengths]
        for length in lengths:
            two = _two_lengths("quick", "training", width, length, 2 * length)
            cases += [replace(two, allocator="default"), _error("quick", width, length)]
    cases = [replace(case, seconds=0.02, device=device) for case in cases]
    return [replace(cases[0], memory=_MEMORY[:1]), *cases[1:]]


def chosen(
    suite: str,
    widths: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    device: str = "cpu",
) -> list[Case]:
    """The cases of a suite, or of "all", of these widths and lengths; none for the suite's.

    On another device than the CPU "goals", "sweep" and "all" are one suite, of any sizes.
    Raises: ValueError if there are none.
    """
    given = {"widths": widths, "lengths": lengths}
    sizes: Any = {name: values for name, values in given.items() if values is not None}
    cases: list[Case] = []
    if device != "cpu" and suite != "quick":
        return on_device(device, **sizes)
    if suite in ("goals", "all"):
        cases += [
            case
            for case in goals()
            if (widths is None or case.width in widths)
            and (lengths is None or {case.length, case.beside} & {*lengths})
        ]
    if suite in ("sweep", "all"):
        cases += sweep(**sizes)
    if suite == "quick":
        cases += quick(**sizes, device=device)
    if not cases:
        asked = " and ".join(f"{name} {json.dumps(values)}" for name, values in sizes.items())
        raise ValueError(f"no row of the suite {suite} has {asked}; leave some of them out")
    return cases


def _is_power_of_4(length: int) -> bool:
    return length >= 1024 and length & (length - 1) == 0 and length.bit_length() % 2 == 1


def _two_lengths(suite: Suite, direction: Direction, width: int, length: int, beside: int) -> Case:
    """Ours alone at two lengths, for the ratio of their times; in training the second's memory."""
    kind: Kind = ("two_lengths", direction, _UNDER[direction])
    names = (f"L={length}", f"L={beside}")
    memory = names[1:] if direction == "training" and suite == "goals" else ()
    return Case(suite, *kind, width, length, names, beside, memory=memory)


def _error(suite: Suite, width: int, length: int) -> Case:
    """Errors against float64 with a short convolution, of a batch so that its gradients and those
    of filter and skip are sums."""
    names = ("ours", "torch", "public")
    return Case(suite, "error", "training", "default", width, length, names, batch=ERROR_BATCH)
