"""The short convolution: a few taps a channel, as shifted multiply-adds."""

from torch import Tensor

from hyena.ops import _check, _route
from hyena.ops._filter import for_channels
from hyena.ops.backend import Backend
from hyena.ops.segments import Segments


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
        k: filters, (D, K), or (G, K) with G a divisor of D, each for D/G consecutive channels; K
            odd if not causal. The native kernel takes up to 128 taps.
        bias: (D,) or None.
        causal: False for a centred filter.
        segments: documents that must not see one another.
        backend: as in `hyena.ops.long_conv`.

    Returns: y, (B, D, L), dtype and device of ``u``. Differentiable, twice and under torch.func.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch;
        RuntimeError if "native" is not built.
    """
    k = for_channels(u, k)
    checked = _check.convolution(
        "short_conv", u, None, None, (k, bias), causal=causal, segments=segments, backend=backend
    )
    return _route.run("short_conv", checked, backend)
