"""The gated convolution: what a Hyena operator of order 2 does between its projections."""

from torch import Tensor

from hyena.ops import _check, _route
from hyena.ops._filter import FilterSpectrum
from hyena.ops.backend import Backend
from hyena.ops.segments import Segments


def gated_conv(
    z: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None = None,
    *,
    short: tuple[Tensor, Tensor | None] | None = None,
    causal: bool = True,
    segments: Segments | None = None,
    block_causal: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    r"""Short convolution, gate, long convolution and gate, in O((L + K) log(L + K)).

    .. math:: y_{b,d,t} = a_{b,d,t} \Bigl(\sum_{j} k_{d,j}\,(b\,v)_{b,d,t-s_j}
        + \mathrm{skip}_d\,(b\,v)_{b,d,t}\Bigr)

    The channels of z are a, the gate after the long convolution, b, the gate before it, and the
    value v, D of each: x⁰, x¹ and v of Poli et al. 2023 (arXiv:2302.10866), Definition 3.1 with
    N = 2. The lags s are those of `hyena.ops.long_conv`. Definition: `hyena.ops.naive.gated_conv`.

    Args:
        z: inputs, (B, 3·D, L), float32, float64, float16 or bfloat16; any strides.
        k: filters, (D, K), or a `FilterSpectrum`, as in `hyena.ops.long_conv`.
        skip: weight of the long convolution's direct path, (D,); None means zero.
        short: the short convolution of z, (taps (3·D, J), bias (3·D,) or None), as in
            `hyena.ops.short_conv`; J odd if not causal. None means none.
        causal, segments, block_causal: of both convolutions, as in `hyena.ops.long_conv`; the
            short one is exactly causal anyway.
        backend: "auto" takes the fastest that is there; "naive" is the definition.

    Returns: y, (B, D, L), dtype and device of ``z``. Differentiable, twice and under torch.func, in
        every tensor but a spectrum.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch, and on
        settings that exclude one another; RuntimeError if "native" is not built.
    """
    checked = _check.convolution(
        "gated_conv",
        z,
        k,
        skip,
        short,
        parts=3,
        causal=causal,
        segments=segments,
        block_causal=block_causal,
        backend=backend,
    )
    return _route.run("gated_conv", checked, backend)
