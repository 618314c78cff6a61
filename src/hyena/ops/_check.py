"""What a convolution's arguments must be; one clear line where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hyena.ops.arguments import check_tensor
from hyena.ops.observed import undisturbed
from hyena.ops.overlap import names_in_memory_of, overlaps_itself
from hyena.ops.segments import Segments

if TYPE_CHECKING:
    from hyena.ops.spectrum import FilterSpectrum


def check_long(
    op: str,
    u: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None,
    *,
    causal: bool,
    segments: Segments | None,
    block_causal: bool,
    backend: str,
    input: str = "u",
    parts: int = 1,
) -> None:
    """The arguments of a long convolution of an input of ``parts`` times the filter's channels.

    Raises: TypeError on what is no tensor; ValueError on shapes, dtypes, devices or settings that
        do not fit together.
    """
    if block_causal and not causal:
        raise ValueError(
            f"{op}: block_causal=True keeps the future out, but causal=False asks for it; "
            "drop one of them"
        )
    from hyena.ops.spectrum import FilterSpectrum  # which imports this module

    if not isinstance(k, FilterSpectrum):
        check_conv(op, u, k, skip, "skip", causal, segments, input=input, parts=parts)
        return
    check_tensor(op, input, u)
    if backend == "naive" or block_causal:
        setting = 'backend="naive"' if backend == "naive" else "block_causal=True"
        raise ValueError(
            f"{op}: {setting} sums over the taps of a filter, but got a FilterSpectrum; "
            "pass the filter k instead"
        )
    _check_spectrum(op, u, k, skip, causal, segments, input, parts)


def check_conv(
    op: str,
    u: Tensor,
    k: Tensor,
    per_channel: Tensor | None,
    name: str,
    causal: bool,
    segments: Segments | None,
    *,
    input: str = "u",
    parts: int = 1,
) -> None:
    """Kinds, shapes, dtypes and devices of input, filter and what is beside it, called ``name``.

    Raises: as `check_long`.
    """
    check_tensor(op, input, u)
    check_tensor(op, "k", k)
    check_tensor(op, name, per_channel, optional=True)
    got = f"got {tuple(u.shape)} and {tuple(k.shape)}"
    expected = f"expected {input} {_sizes(parts)} and k (D, K), {got}"
    if u.dim() != 3 or k.dim() != 2:
        raise ValueError(f"{op}: {expected}")
    if parts * k.shape[0] != u.shape[1]:
        raise ValueError(
            f"{op}: k has {k.shape[0]} channels but {input} has {u.shape[1]}; {expected}"
        )
    if not u.is_floating_point():
        raise ValueError(f"{op}: expected floating point {input}, got {u.dtype}")
    if u.device != k.device:
        raise ValueError(f"{op}: {input} is on {u.device} but k is on {k.device}; move one of them")
    check_filter(op, k, per_channel, name, causal)
    _check_segments(op, u, segments, f"{input} is {_sizes(parts)}")


def check_filter(op: str, k: Tensor, per_channel: Tensor | None, name: str, causal: bool) -> None:
    """What can be said of the filter (D, K) and of the numbers beside it without the input."""
    if k.shape[1] < 1:
        raise ValueError(
            f"{op}: the filter has no taps; expected k (D, K) with K ≥ 1, got {tuple(k.shape)}"
        )
    if not causal and k.shape[1] % 2 == 0:
        raise ValueError(
            f"{op}: causal=False needs an odd number of taps, with lag 0 in the middle, "
            f"got K = {k.shape[1]}"
        )
    if not k.is_floating_point():
        raise ValueError(f"{op}: expected floating point k, got {k.dtype}")
    if per_channel is None:
        return
    if per_channel.shape != k.shape[:1] or not per_channel.is_floating_point():
        raise ValueError(
            f"{op}: expected floating point {name} of shape (D,) = ({k.shape[0]},), got "
            f"{tuple(per_channel.shape)} of {per_channel.dtype}"
        )
    if per_channel.device != k.device:
        raise ValueError(
            f"{op}: k is on {k.device} but {name} is on {per_channel.device}; move one of them"
        )


def check_out(
    op: str, out: Tensor, shape: tuple[int, ...], given: dict[str, Tensor | None], parts: int = 1
) -> None:
    """``out`` must be a tensor of this shape, like the input, in memory of its own, in a call that
    records no gradient.

    Args: the other arguments by name, the input first. If it has three parts, out may be the third.
    """
    check_tensor(op, "out", out)
    (input, u), *_ = given.items()
    assert u is not None
    tensors = [out, *given.values()]
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        raise ValueError(
            f"{op}: out= takes no part in differentiation, but an argument requires a gradient; "
            "leave it out, or call under torch.no_grad()"
        )
    if out.shape != shape or out.dtype != u.dtype or out.device != u.device:
        raise ValueError(
            f"{op}: expected out {tuple(shape)} of {u.dtype} on {u.device}, "
            f"got {tuple(out.shape)} of {out.dtype} on {out.device}"
        )
    if not undisturbed(*tensors) or out.is_meta:
        return  # what stands for a tensor has no memory
    if overlaps_itself(out):
        raise ValueError(
            f"{op}: elements of out lie in the same place: its strides are {out.stride()} at shape "
            f"{tuple(out.shape)}; pass a tensor of which no two do"
        )
    if parts == 3 and _is_value(out, u):
        given = {**given, input: None}
    for name in names_in_memory_of(out, given):
        but = f", of which only all of the value, {input}[:, 2·D:], may be out"
        raise ValueError(
            f"{op}: out shares memory with {name}{but if parts == 3 and name == input else ''}; "
            "give it memory of its own"
        )


def _is_value(out: Tensor, z: Tensor) -> bool:
    """Whether out is the last third of z, whose place it may take: the native kernel and PyTorch's
    ops read all of it, for a row of a channel, before they write."""
    distance = z.element_size() * z.stride(1) * 2 * out.shape[1]
    return (
        out.data_ptr() - z.data_ptr() == distance
        and out.stride() == z.stride()
        and not overlaps_itself(z)
    )


def _sizes(parts: int) -> str:
    return "(B, D, L)" if parts == 1 else f"(B, {parts}·D, L)"


def _check_segments(op: str, u: Tensor, segments: Segments | None, got: str) -> None:
    if segments is not None and not isinstance(segments, Segments):
        raise TypeError(
            f"{op}: expected hyena.ops.Segments or None as segments, got "
            f"{type(segments).__name__}; Segments.from_document_ids makes them of a tensor"
        )
    if segments is not None and segments.ids.shape != (u.shape[0], u.shape[2]):
        raise ValueError(
            f"{op}: segments describe a batch (B, L) = {tuple(segments.ids.shape)}, "
            f"but {got} = {tuple(u.shape)}"
        )


def _check_spectrum(
    op: str,
    u: Tensor,
    k: FilterSpectrum,
    skip: Tensor | None,
    causal: bool,
    segments: Segments | None,
    input: str,
    parts: int,
) -> None:
    sizes = _sizes(parts)
    if u.dim() != 3 or not u.is_floating_point():
        raise ValueError(
            f"{op}: expected floating point {input} {sizes}, got {tuple(u.shape)} of {u.dtype}"
        )
    if causal != k.causal:
        raise ValueError(
            f"{op}: the FilterSpectrum was made with causal={k.causal}, got causal={causal}"
        )
    if skip is not None or (segments is not None and not segments.trivial):
        raise ValueError(
            f"{op}: a FilterSpectrum holds its skip already and knows one length only; "
            "got skip or packed segments with it: pass the filter k instead"
        )
    D = k.channels
    if u.shape[-1] != k.length or u.shape[1] != parts * D:
        raise ValueError(
            f"{op}: the FilterSpectrum was made for {D} channels and length {k.length}, but "
            f"{input} is {sizes} = {tuple(u.shape)}"
        )
    if k.layout == "fft" and k.values.shape != (D, k.n // 2 + 1):
        raise ValueError(
            f"{op}: the FilterSpectrum holds {tuple(k.values.shape)} numbers, not (D, n/2 + 1) = "
            f"{(D, k.n // 2 + 1)}; take it as filter_spectrum returned it"
        )
    if u.device != k.values.device:
        raise ValueError(
            f"{op}: {input} is on {u.device} but the FilterSpectrum is on {k.values.device}; "
            "move one of them"
        )
    _check_segments(op, u, segments, f"{input} is {sizes}")
