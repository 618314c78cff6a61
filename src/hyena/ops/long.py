"""The long convolution: a filter as long as the sequence, for each channel its own."""

from torch import Tensor

from hyena.ops import _check, _route
from hyena.ops._filter import FilterSpectrum
from hyena.ops.backend import Backend
from hyena.ops.segments import Segments


def long_conv(
    u: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None = None,
    *,
    causal: bool = True,
    segments: Segments | None = None,
    block_causal: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    r"""Convolution of each channel with its own filter, in O((L + K) log(L + K)).

    .. math:: y_{b,d,t} = \sum_{j} k_{d,j}\,u_{b,d,t-s_j} + \mathrm{skip}_d\,u_{b,d,t}

    The lag of tap j is s_j = j if causal, else j − (K−1)/2. Poli et al. 2023 (arXiv:2302.10866),
    section 2.1, eq. 1. Definition: `hyena.ops.naive.long_conv`.

    An FFT makes this causal only up to rounding: among inputs of variance one, an input of size A
    moves earlier outputs by up to 4 · epsilon · A · ‖k‖, with the epsilon of float32 or wider, and
    a NaN or infinity reaches the whole row. ``block_causal=True`` is exact in that respect, and so
    is ``backend="naive"``; and the native kernel where it sums up to 128 taps as they are, if four
    times as many fit into the row.

    Args:
        u: input, (B, D, L), float32, float64, float16 or bfloat16; any strides.
        k: filters, (D, K), floating; K may differ from L, and taps with a lag of L or more have no
            effect. K is odd if not causal. Or what `filter_spectrum` returned, without gradient.
        skip: weight of the direct path, (D,); None means zero.
        causal: one-sided filter; False for a centred one.
        segments: documents that must not see one another; each is convolved on its own.
        block_causal: no input changes any earlier output, not even by rounding, in O(L log² L).
        backend: "auto" takes the fastest that is there; "naive" is the definition.

    Returns: y, (B, D, L), dtype and device of ``u``. Differentiable, twice and under torch.func, in
        u, k and skip.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch, and on
        settings that exclude one another; RuntimeError if "native" is not built.
    """
    checked = _check.convolution(
        "long_conv",
        u,
        k,
        skip,
        causal=causal,
        segments=segments,
        block_causal=block_causal,
        backend=backend,
    )
    return _route.run("long_conv", checked, backend)
