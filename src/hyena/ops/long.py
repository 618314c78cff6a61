"""The long convolution: a filter as long as the sequence, for each channel its own."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import fft, naive
from hyena.ops._check import check_long, check_out
from hyena.ops._taps import crop, fold_skip, lead_of, narrow
from hyena.ops.backend import Backend, resolve_backend, takes_native
from hyena.ops.block_causal import by_halves
from hyena.ops.native import _registered as native
from hyena.ops.segments import Segments, spans_of
from hyena.ops.short import short_conv
from hyena.ops.spectrum import FilterSpectrum, takes_native_spectrum


def long_conv(
    u: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None = None,
    *,
    causal: bool = True,
    segments: Segments | None = None,
    block_causal: bool = False,
    backend: Backend = "auto",
    out: Tensor | None = None,
) -> Tensor:
    r"""Convolution of each channel with its own filter, in O((L + K) log(L + K)).

    .. math:: y_{b,d,t} = \sum_{j} k_{d,j}\,u_{b,d,t-s_j} + \mathrm{skip}_d\,u_{b,d,t}

    The lag of tap j is s_j = j if causal, else j − (K−1)/2. Poli et al. 2023 (arXiv:2302.10866),
    section 2.1, eq. 1. Definition: `hyena.ops.naive.long_conv`.

    An FFT makes this causal only up to rounding: among inputs of variance one, an input of size A
    moves earlier outputs by up to 4 · epsilon · A · ‖k‖, with the epsilon of float32 or wider, and
    a NaN or infinity reaches the whole row. ``block_causal=True`` is exact in that respect, and so
    is ``backend="naive"``.

    Args:
        u: input, (B, D, L), float32, float64, float16 or bfloat16; any strides.
        k: filters, (D, K), floating; K may differ from L, and taps with a lag of L or more have no
            effect. K is odd if not causal. Or what `filter_spectrum` returned, without gradient.
        skip: weight of the direct path, (D,); None means zero.
        causal: one-sided filter; False for a centred one.
        segments: documents that must not see one another; each is convolved on its own.
        block_causal: no input changes any earlier output, not even by rounding, in O(L log² L).
        backend: "auto" takes the fastest that is there; "naive" is the definition.
        out: (B, D, L) like ``u``, overlapping neither itself nor an argument: y is written there.
            Only where nothing requires a gradient.

    Returns: y, (B, D, L), dtype and device of ``u``. Differentiable, twice and under torch.func, in
        u, k and skip.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch, and on
        settings that exclude one another; RuntimeError if "native" is not built.
    """
    chosen = resolve_backend(backend)
    check_long(
        "long_conv",
        u,
        k,
        skip,
        causal=causal,
        segments=segments,
        block_causal=block_causal,
        backend=chosen,
    )
    taps = k.values if isinstance(k, FilterSpectrum) else k
    if out is not None:
        check_out("long_conv", out, u.shape, {"u": u, "k": taps, "skip": skip})
    if u.numel() == 0:
        y = u.clone()
    elif isinstance(k, FilterSpectrum):
        if takes_native_spectrum("long_conv", k, chosen, u):
            y = native.conv(u, 1, k.values, k.n, None, None, None, k.lead, 0, None, out)
        else:
            y = fft.multiply_spectrum(u, k.values, k.n, out)
    elif chosen == "naive":
        y = naive.long_conv(u, k, skip, causal=causal, segments=segments)
    elif block_causal:
        y = _block_causal(u, k, skip, segments, backend)
    elif takes_native("long_conv", chosen, u, k, skip):
        k = narrow(crop(k, u.shape[-1], causal))
        lead, spans = lead_of(k, causal), spans_of(segments)
        y = native.conv(u, 1, k, 0, narrow(skip), None, None, lead, 0, spans, out)
    else:
        y = _through_fft(u, k, skip, causal, segments, out)
    return y if out is None or y is out else out.copy_(y)


def _through_fft(
    u: Tensor,
    k: Tensor,
    skip: Tensor | None,
    causal: bool,
    segments: Segments | None,
    out: Tensor | None,
) -> Tensor:
    """y, written to ``out`` where that saves a copy."""
    k = fold_skip(crop(k, u.shape[-1], causal), skip, causal)
    if segments is None or segments.trivial:
        return fft.convolve(u, k, lead_of(k, causal), out)
    return _packed(u, k, causal, segments, lambda u, k: fft.convolve(u, k, lead_of(k, causal)))


def _block_causal(
    u: Tensor, k: Tensor, skip: Tensor | None, segments: Segments | None, backend: Backend
) -> Tensor:
    k = fold_skip(crop(k, u.shape[-1], causal=True), skip, causal=True)
    convolve = partial(
        by_halves,
        short=partial(short_conv, backend=backend),
        two_sided=partial(long_conv, causal=False, backend=backend),
    )
    if segments is None or segments.trivial:
        return convolve(u, k)
    return _packed(u, k, True, segments, convolve)


def _packed(
    u: Tensor,
    k: Tensor,
    causal: bool,
    segments: Segments,
    convolve: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Documents of like length share one batch of rows."""
    groups: dict[int, list[int]] = {}
    for index, (_, start, stop) in enumerate(segments.spans):
        groups.setdefault(fft.fast_length(stop - start), []).append(index)
    pieces: list[Tensor | None] = [None] * len(segments.spans)
    for members in groups.values():
        spans = [segments.spans[i] for i in members]
        longest = max(stop - start for _, start, stop in spans)
        batch = torch.stack([F.pad(u[row, :, a:b], (0, longest - (b - a))) for row, a, b in spans])
        y = convolve(batch, crop(k, longest, causal))
        for i, piece, (_, a, b) in zip(members, y, spans, strict=True):
            pieces[i] = piece[:, : b - a]
    # The spans cover the rows in order, so the pieces laid end to end are the batch.
    whole = torch.cat([piece for piece in pieces if piece is not None], dim=1)
    return whole.unflatten(1, (u.shape[0], u.shape[2])).transpose(0, 1)
