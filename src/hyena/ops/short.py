"""The short convolution: a few taps a channel, as shifted multiply-adds."""

from torch import Tensor

from hyena.ops import naive
from hyena.ops._check import check_conv
from hyena.ops._shifted_sum import ShiftedSum
from hyena.ops._taps import lead_of, narrow
from hyena.ops.backend import Backend, resolve_backend, takes_native
from hyena.ops.native import _registered as native
from hyena.ops.native._abi import MOST_SHORT_TAPS
from hyena.ops.segments import Segments, spans_of


def short_conv(
    u: Tensor,
    k: Tensor,
    bias: Tensor | None = None,
    *,
    causal: bool = True,
    segments: Segments | None = None,
    backend: Backend = "auto",
) -> Tensor:
    r"""Depthwise convolution with few taps, in O(L·K), computed in the time domain.

    .. math:: y_{b,d,t} = \sum_j k_{d,j}\,u_{b,d,t-s_j} + \mathrm{bias}_d

    The lag of tap j is s_j = j if causal, else j − (K−1)/2 (so against `torch.nn.Conv1d`, which
    correlates, the taps are reversed). Poli et al. 2023 (arXiv:2302.10866), Algorithm 1. Exactly
    causal. Definition: `hyena.ops.naive.short_conv`.

    Args:
        u: input, (B, D, L), floating; any strides, contiguous is fastest.
        k: filters, (D, K); K odd if not causal.
        bias: (D,) or None.
        causal: False for a centred filter.
        segments: documents that must not see one another.
        backend: as in `hyena.ops.long_conv`.

    Returns: y, (B, D, L), dtype and device of ``u``. Differentiable, twice and under torch.func.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch;
        RuntimeError if "native" is not built.
    """
    chosen = resolve_backend(backend)
    check_conv("short_conv", u, k, bias, "bias", causal, segments)
    if u.numel() == 0:
        return u.clone()
    if segments is not None and segments.trivial:
        segments = None
    if chosen == "naive":
        return naive.short_conv(u, k, bias, causal=causal, segments=segments)
    few = k.shape[1] <= MOST_SHORT_TAPS
    if few and takes_native("short_conv", chosen, u, k, bias):
        lead = lead_of(k, causal)
        return native.short_conv(u, narrow(k), narrow(bias), lead, spans_of(segments))
    ids = None if segments is None else segments.ids
    lags = tuple(naive.lags(k.shape[1], causal))
    y: Tensor = ShiftedSum.apply(u, k, ids, lags)
    return y if bias is None else y + bias[:, None].to(y.dtype)
