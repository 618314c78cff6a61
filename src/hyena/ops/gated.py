"""The gated convolution: what a Hyena operator of order 2 does between its projections."""

import torch
from torch import Tensor

from hyena.ops import naive
from hyena.ops._check import check_conv, check_long, check_out
from hyena.ops._taps import crop, lead_of, narrow
from hyena.ops.arguments import check_tensor
from hyena.ops.backend import Backend, resolve_backend, takes_native
from hyena.ops.long import long_conv
from hyena.ops.native import _registered as native
from hyena.ops.native._abi import MOST_SHORT_TAPS
from hyena.ops.segments import Segments, spans_of
from hyena.ops.short import short_conv
from hyena.ops.spectrum import FilterSpectrum, takes_native_spectrum


def gated_conv(
    z: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None = None,
    *,
    short: tuple[Tensor, Tensor | None] | None = None,
    offset: Tensor | None = None,
    causal: bool = True,
    segments: Segments | None = None,
    block_causal: bool = False,
    backend: Backend = "auto",
    out: Tensor | None = None,
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
        offset: (3·D,), added to z before everything: the bias of the projection that made it. None
            means zero.
        causal, segments, block_causal: of both convolutions, as in `hyena.ops.long_conv`; the
            short one is exactly causal anyway.
        backend: "auto" takes the fastest that is there; "naive" is the definition.
        out: (B, D, L) like ``z``, overlapping neither itself nor an argument, unless it is the
            value itself, ``z[:, 2·D:]``: y is written there. Only where nothing requires a
            gradient.

    Returns: y, (B, D, L), dtype and device of ``z``. Differentiable, twice and under torch.func, in
        every tensor but a spectrum.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch, and on
        settings that exclude one another; RuntimeError if "native" is not built.
    """
    chosen = resolve_backend(backend)
    check_long(
        "gated_conv",
        z,
        k,
        skip,
        causal=causal,
        segments=segments,
        block_causal=block_causal,
        backend=chosen,
        input="z",
        parts=3,
    )
    taps, bias = _short_of(z, short, causal)
    B, channels, L = z.shape
    check_tensor("gated_conv", "offset", offset, optional=True)
    if offset is not None and (
        offset.shape != (channels,) or not offset.is_floating_point() or offset.device != z.device
    ):
        raise ValueError(
            f"gated_conv: expected floating point offset (3·D,) = ({channels},) on {z.device}, got "
            f"{tuple(offset.shape)} of {offset.dtype} on {offset.device}"
        )
    if out is not None:
        long_taps = k.values if isinstance(k, FilterSpectrum) else k
        given = {"z": z, "k": long_taps, "skip": skip, "taps": taps, "bias": bias, "offset": offset}
        check_out("gated_conv", out, (B, channels // 3, L), given, parts=3)

    if z.numel() == 0:
        y = z[:, : channels // 3].clone()
    elif chosen == "naive" and isinstance(k, Tensor):
        z = _shifted(z, offset)
        y = naive.gated_conv(z, k, skip, short=short, causal=causal, segments=segments)
    elif not block_causal and _takes_native(z, k, skip, taps, bias, offset, chosen):
        if isinstance(k, FilterSpectrum):
            filter, n, lead = k.values, k.n, k.lead
        else:
            filter, n = narrow(crop(k, L, causal)), 0
            lead = lead_of(filter, causal)
        short_lead = 0 if taps is None else lead_of(taps, causal)
        y = native.conv(
            z, 3, filter, n, narrow(skip), narrow(taps), narrow(bias), lead, short_lead,
            spans_of(segments), out, narrow(offset),
        )  # fmt: skip
    else:
        z = _shifted(z, offset)
        if taps is not None:
            z = short_conv(z, taps, bias, causal=causal, segments=segments, backend=backend)
        post, pre, value = z.chunk(3, dim=1)
        y = long_conv(
            pre * value,
            k,
            skip,
            causal=causal,
            segments=segments,
            block_causal=block_causal,
            backend=backend,
            out=out,
        )
        y = post * y if out is None else torch.mul(post, y, out=out)
    return y if out is None or y is out else out.copy_(y)


def _shifted(z: Tensor, offset: Tensor | None) -> Tensor:
    return z if offset is None else z + offset[:, None].to(z.dtype)


def _takes_native(
    z: Tensor,
    k: Tensor | FilterSpectrum,
    skip: Tensor | None,
    taps: Tensor | None,
    bias: Tensor | None,
    offset: Tensor | None,
    backend: Backend,
) -> bool:
    if taps is not None and taps.shape[1] > MOST_SHORT_TAPS:
        return False
    if isinstance(k, FilterSpectrum):
        return takes_native_spectrum("gated_conv", k, backend, z)
    return takes_native("gated_conv", backend, z, k, skip, taps, bias, offset)


def _short_of(
    z: Tensor, short: tuple[Tensor, Tensor | None] | None, causal: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Taps and bias of the short convolution."""
    if short is None:
        return None, None
    if not isinstance(short, tuple) or len(short) != 2:
        raise ValueError(
            "gated_conv: expected short = (taps (3·D, J), bias (3·D,) or None) or None, got "
            f"{type(short).__name__}"
        )
    check_conv("gated_conv: short", z, *short, "bias", causal, None, input="z")
    return short
