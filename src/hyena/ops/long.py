"""The long convolution: a filter as long as the sequence, for each channel its own."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import fft, naive
from hyena.ops.backend import Backend, resolve_backend
from hyena.ops.segments import Segments


class FilterSpectrum(NamedTuple):
    """A filter transformed once for inputs of one length; made by `filter_spectrum`."""

    values: Tensor  # (D, n/2 + 1) complex
    n: int  # FFT size
    length: int  # L it was made for
    causal: bool


def long_conv(
    u: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None = None,
    *,
    causal: bool = True,
    segments: Segments | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Convolution of each channel with its own filter, in O((L + K) log(L + K)).

    .. math:: y_{b,d,t} = \sum_{j} k_{d,j}\,u_{b,d,t-s_j} + \mathrm{skip}_d\,u_{b,d,t}

    The lag of tap j is s_j = j if causal, else j − (K−1)/2. Poli et al. 2023 (arXiv:2302.10866),
    section 2.1, eq. 1. Definition: `hyena.ops.naive.long_conv`.

    An FFT makes this causal only up to rounding: an input of 10⁶ at the last position moves
    earlier outputs by up to about 10⁶ · epsilon · ‖k‖, and a NaN or infinity reaches the whole row.
    ``backend="naive"`` is exact in that respect.

    Args:
        u: input, (B, D, L), float32, float64, float16 or bfloat16; any strides.
        k: filters, (D, K), floating; K may differ from L, and taps with a lag of L or more have no
            effect. K is odd if not causal. Or what `filter_spectrum` returned, without gradient.
        skip: weight of the direct path, (D,); None means zero.
        causal: one-sided filter; False for a centred one.
        segments: documents that must not see one another; each is convolved on its own.
        backend: "auto" takes the fastest that is there; "naive" is the definition.

    Returns: y, (B, D, L), dtype and device of ``u``. Differentiable, twice and under torch.func, in
        u, k and skip.
    Raises: ValueError on a shape, dtype or device mismatch; RuntimeError if "native" is not built.
    """
    chosen = resolve_backend(backend)
    if isinstance(k, FilterSpectrum):
        if chosen == "naive":
            raise ValueError(
                'long_conv: backend="naive" sums over the taps of a filter, but got a '
                "FilterSpectrum; pass the filter k instead"
            )
        return _with_spectrum(u, k, skip, causal, segments)
    check_conv("long_conv", u, k, skip, "skip", causal, segments)
    if u.numel() == 0:
        return u.clone()
    if chosen == "naive":
        return naive.long_conv(u, k, skip, causal=causal, segments=segments)
    k = _fold_skip(_crop(k, u.shape[-1], causal), skip, causal)
    if segments is None or segments.trivial:
        return fft.convolve(u, k, _lead(k, causal))
    return _packed(u, k, causal, segments)


def filter_spectrum(
    k: Tensor, length: int, skip: Tensor | None = None, *, causal: bool = True
) -> FilterSpectrum:
    """The filter's transform, for use in place of ``k`` and ``skip`` at inputs of one length.

    Args: k (D, K) floating; length L ≥ 1; skip (D,) or None; causal as in `long_conv`.
    Returns: a `FilterSpectrum` of D · (n/2 + 1) complex numbers, n ≥ L + min(K, L) − 1.
    Raises: ValueError on a shape, dtype or device mismatch.
    """
    if k.dim() != 2 or length < 1:
        raise ValueError(
            f"filter_spectrum: expected k (D, K) and length ≥ 1, got {tuple(k.shape)} and {length}"
        )
    _check_filter("filter_spectrum", k, skip, "skip", causal)
    k = _fold_skip(_crop(k, length, causal), skip, causal)
    lead = _lead(k, causal)
    n = fft.fft_length(length, k.shape[1], lead)
    dtype = torch.promote_types(k.dtype, torch.float32)
    return FilterSpectrum(fft.spectrum(k, n, lead, dtype), n, length, causal)


def _with_spectrum(
    u: Tensor, k: FilterSpectrum, skip: Tensor | None, causal: bool, segments: Segments | None
) -> Tensor:
    if u.dim() != 3 or not u.is_floating_point():
        raise ValueError(
            f"long_conv: expected floating point u (B, D, L), got {tuple(u.shape)} of {u.dtype}"
        )
    if causal != k.causal:
        raise ValueError(
            f"long_conv: the FilterSpectrum was made with causal={k.causal}, got causal={causal}"
        )
    if skip is not None or (segments is not None and not segments.trivial):
        raise ValueError(
            "long_conv: a FilterSpectrum holds its skip already and knows one length only; "
            "got skip or packed segments with it: pass the filter k instead"
        )
    if u.shape[-1] != k.length or u.shape[1] != k.values.shape[0]:
        raise ValueError(
            f"long_conv: the FilterSpectrum was made for {k.values.shape[0]} channels and length "
            f"{k.length}, but u is (B, D, L) = {tuple(u.shape)}"
        )
    if u.device != k.values.device:
        raise ValueError(
            f"long_conv: u is on {u.device} but the FilterSpectrum is on {k.values.device}; "
            "move one of them"
        )
    return u.clone() if u.numel() == 0 else fft.multiply_spectrum(u, k.values, k.n)


def _lead(k: Tensor, causal: bool) -> int:
    return 0 if causal else (k.shape[1] - 1) // 2


def _crop(k: Tensor, length: int, causal: bool) -> Tensor:
    """Without the taps that reach past the sequence: their lag is ``length`` or more."""
    length = max(length, 1)
    if causal:
        return k[:, :length]
    excess = (k.shape[1] - 1) // 2 - (length - 1)
    return k if excess <= 0 else k[:, excess : k.shape[1] - excess]


def _fold_skip(k: Tensor, skip: Tensor | None, causal: bool) -> Tensor:
    """skip · u is a tap at lag 0."""
    if skip is None:
        return k
    lead = _lead(k, causal)
    dtype = torch.promote_types(torch.promote_types(k.dtype, skip.dtype), torch.float32)
    return k.to(dtype) + F.pad(skip.to(dtype)[:, None], (lead, k.shape[1] - 1 - lead))


def _packed(u: Tensor, k: Tensor, causal: bool, segments: Segments) -> Tensor:
    """Documents of like length share one batch of transforms."""
    groups: dict[int, list[int]] = {}
    for index, (_, start, stop) in enumerate(segments.spans):
        groups.setdefault(fft.fast_length(stop - start), []).append(index)
    pieces: list[Tensor | None] = [None] * len(segments.spans)
    for members in groups.values():
        spans = [segments.spans[i] for i in members]
        longest = max(stop - start for _, start, stop in spans)
        batch = torch.stack([F.pad(u[row, :, a:b], (0, longest - (b - a))) for row, a, b in spans])
        taps = _crop(k, longest, causal)
        y = fft.convolve(batch, taps, _lead(taps, causal))
        for i, piece, (_, a, b) in zip(members, y, spans, strict=True):
            pieces[i] = piece[:, : b - a]
    # The spans cover the rows in order, so the pieces laid end to end are the batch.
    whole = torch.cat([piece for piece in pieces if piece is not None], dim=1)
    return whole.unflatten(1, (u.shape[0], u.shape[2])).transpose(0, 1)


def check_conv(
    op: str,
    u: Tensor,
    k: Tensor,
    per_channel: Tensor | None,
    name: str,
    causal: bool,
    segments: Segments | None,
) -> None:
    """Shapes, dtypes and devices of a convolution's arguments; one clear line if they differ."""
    got = f"got {tuple(u.shape)} and {tuple(k.shape)}"
    if u.dim() != 3 or k.dim() != 2:
        raise ValueError(f"{op}: expected u (B, D, L) and k (D, K), {got}")
    if k.shape[0] != u.shape[1]:
        raise ValueError(
            f"{op}: k has {k.shape[0]} channels but u has {u.shape[1]}; "
            f"expected u (B, D, L) and k (D, K), {got}"
        )
    if not u.is_floating_point():
        raise ValueError(f"{op}: expected floating point u, got {u.dtype}")
    if u.device != k.device:
        raise ValueError(f"{op}: u is on {u.device} but k is on {k.device}; move one of them")
    _check_filter(op, k, per_channel, name, causal)
    if segments is not None and segments.ids.shape != (u.shape[0], u.shape[2]):
        raise ValueError(
            f"{op}: segments describe a batch (B, L) = {tuple(segments.ids.shape)}, "
            f"but u is (B, D, L) = {tuple(u.shape)}"
        )


def _check_filter(op: str, k: Tensor, per_channel: Tensor | None, name: str, causal: bool) -> None:
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
