"""What a registered op may be given: anyone can call it, and the kernel believes its arguments."""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena.ops.native._abi import DTYPES, MOST_SHORT_TAPS
from hyena.ops.native._call import Arguments, Spans
from hyena.ops.segments import check_spans


def check_conv(op: str, z: Tensor, a: Arguments) -> None:
    """Input and arguments of a convolution, but for a spectrum, of which `_call` knows more.

    Raises: ValueError on shapes, dtypes, devices or numbers that do not fit together.
    """
    if a.parts not in (1, 3):
        raise ValueError(f"{op}: expected parts = 1 or 3, got {a.parts}")
    _check_input(op, "z", z)
    B, channels, L = z.shape
    if channels % a.parts:
        raise ValueError(f"{op}: expected z (B, {a.parts}·D, L), got {tuple(z.shape)}")
    D = channels // a.parts
    if a.n == 0:
        _check_taps(op, "filter", a.filter, D, a.lead)
        _check_vector(op, "skip", a.skip, D)
    elif a.skip is not None or a.spans is not None:
        raise ValueError(
            f"{op}: a spectrum (n = {a.n}) holds its skip already and knows one length only, but "
            "skip or spans came with it; pass the filter and n = 0 instead"
        )
    if a.taps is not None:
        _check_short(op, a.taps, a.bias, channels, a.short_lead)
    elif a.bias is not None:
        raise ValueError(f"{op}: bias is that of the short convolution, but taps are None")
    _check_spans(op, a.spans, B, L)


def check_short(
    op: str, u: Tensor, taps: Tensor, bias: Tensor | None, lead: int, spans: Spans
) -> None:
    """Input and arguments of a short convolution. Raises: as `check_conv`."""
    _check_input(op, "u", u)
    _check_short(op, taps, bias, u.shape[1], lead)
    _check_spans(op, spans, u.shape[0], u.shape[2])


def check_gradient(
    op: str, dy: Tensor, x: Tensor, parts: int, need: Sequence[bool], count: int
) -> None:
    """The gradient of the output that came of x, and which of ``count`` are asked for."""
    shape = (x.shape[0], x.shape[1] // parts, x.shape[2])
    if dy.shape != shape or dy.dtype != x.dtype or dy.device != x.device:
        raise ValueError(
            f"{op}: expected dy {shape} of {x.dtype} on {x.device}, got {tuple(dy.shape)} of "
            f"{dy.dtype} on {dy.device}"
        )
    if len(need) != count:
        raise ValueError(f"{op}: expected need to be {count} truth values, got {len(need)}")


def _check_input(op: str, name: str, x: Tensor) -> None:
    if x.dim() != 3 or x.dtype not in DTYPES or x.device.type != "cpu":
        raise ValueError(
            f"{op}: expected {name} (B, D, L) of float32, bfloat16 or float16 on the CPU, got "
            f"{tuple(x.shape)} of {x.dtype} on {x.device}"
        )


def _check_short(op: str, taps: Tensor, bias: Tensor | None, channels: int, lead: int) -> None:
    _check_taps(op, "taps", taps, channels, lead)
    if taps.shape[1] > MOST_SHORT_TAPS:
        raise ValueError(
            f"{op}: expected at most {MOST_SHORT_TAPS} taps in the short convolution, got "
            f"{taps.shape[1]}; hyena.ops.short_conv takes more"
        )
    _check_vector(op, "bias", bias, channels)


def _check_taps(op: str, name: str, x: Tensor, channels: int, lead: int) -> None:
    if x.dim() != 2 or x.shape[0] != channels or x.shape[1] < 1 or not _is_number(x):
        raise ValueError(
            f"{op}: expected {name} ({channels}, ≥ 1) of float32 on the CPU, got {tuple(x.shape)} "
            f"of {x.dtype} on {x.device}"
        )
    if lead != 0 and 2 * lead + 1 != x.shape[1]:
        raise ValueError(
            f"{op}: expected a lead of 0, or half of an odd number of taps, in {name}, got "
            f"{lead} of {x.shape[1]} taps"
        )


def _check_vector(op: str, name: str, x: Tensor | None, channels: int) -> None:
    if x is not None and (x.shape != (channels,) or not _is_number(x)):
        raise ValueError(
            f"{op}: expected {name} ({channels},) of float32 on the CPU, got {tuple(x.shape)} of "
            f"{x.dtype} on {x.device}"
        )


def _is_number(x: Tensor) -> bool:
    return x.dtype == torch.float32 and x.device.type == "cpu"


def _check_spans(op: str, spans: Spans, B: int, L: int) -> None:
    if spans is not None:
        check_spans(op, [spans[i : i + 3] for i in range(0, len(spans), 3)], B, L)
