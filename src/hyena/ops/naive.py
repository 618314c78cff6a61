"""The definitions: sums over lags, in any floating dtype, differentiable, slow.

Every fast backend is tested against these. A tap at lag s carries the input of s positions ago
(of −s positions ahead if s < 0).
"""

from typing import Any

import torch
from torch import Tensor

from hyena.ops import _check
from hyena.ops._filter import for_channels, of_each_channel
from hyena.ops.arguments import LARGEST, check_size, check_tensor
from hyena.ops.segments import Segments


def lags(taps: int, causal: bool) -> range:
    """The lag of each tap: 0 … K−1 if causal, else −(K−1)/2 … (K−1)/2."""
    taps = check_size("naive.lags", "taps", taps, 1)
    lead = 0 if causal else (taps - 1) // 2
    return range(-lead, taps - lead)


def shift(u: Tensor, lag: int, segments: Segments | None = None) -> Tensor:
    """u delayed by ``lag``, (B, D, L): zeros come in at the ends and at document boundaries."""
    check_tensor("naive.shift", "u", u)
    lag = check_size("naive.shift", "lag", lag, -LARGEST)
    if u.dim() != 3:
        raise ValueError(f"naive.shift: expected u (B, D, L), got {tuple(u.shape)}")
    if segments is not None:
        _check.check_segments("naive.shift", 1, u, segments)
    L = u.shape[-1]
    out = torch.zeros_like(u)
    if abs(lag) >= L:
        return out
    here = slice(lag, L) if lag >= 0 else slice(0, L + lag)
    there = slice(0, L - lag) if lag >= 0 else slice(-lag, L)
    source = u[..., there]
    if segments is not None:
        same = segments.ids[:, here] == segments.ids[:, there]
        source = torch.where(same[:, None, :], source, torch.zeros_like(source))
    out[..., here] = source
    return out


def long_conv(
    u: Tensor,
    k: Tensor,
    skip: Tensor | None = None,
    *,
    causal: bool = True,
    segments: Segments | None = None,
) -> Tensor:
    r"""Definition of `hyena.ops.long_conv`, in O(L·K):

    .. math:: y_{b,d,t} = \sum_j k_{d,j}\, u_{b,d,t-s_j} + \mathrm{skip}_d\, u_{b,d,t}

    where :math:`s_j` is the lag of tap j and inputs of other documents count as zero.
    """
    options: dict[str, Any] = {"causal": causal, "segments": segments}
    _check.convolution("naive.long_conv", u, k, skip, backend="naive", **options)
    dtype = torch.promote_types(u.dtype, k.dtype)
    wide = u.to(dtype)
    L, reach = u.shape[-1], lags(k.shape[1], causal)
    # Of no position, it still depends on k, whose gradient is zero.
    y = wide * k[:, :1] if L == 0 else torch.zeros_like(wide)
    for lag in range(max(reach.start, 1 - L), min(reach.stop, L)):  # a row holds no others
        y = y + k[:, lag - reach.start, None] * shift(wide, lag, segments)
    if skip is not None:
        y = y + skip[:, None] * wide
    return y.to(u.dtype)


def long_conv2d(
    u: Tensor, k: Tensor, skip: Tensor | None = None, *, causal: bool = False
) -> Tensor:
    r"""Definition of `hyena.ops.long_conv2d`, in O(H·W·I·J):

    .. math:: y_{b,d,h,w} = \sum_{i,j} k_{d,i,j}\,u_{b,d,h-s_i,w-s_j} + \mathrm{skip}_d\,u_{b,d,h,w}

    where :math:`s_i` and :math:`s_j` are lags of taps, and what is not in the image counts as zero.
    """
    _check.image("naive.long_conv2d", u, k, skip, causal)
    dtype = torch.promote_types(u.dtype, k.dtype)
    wide = u.to(dtype)
    D, H, W = u.shape[1:]
    # Of no pixel, it still depends on k, whose gradient is zero.
    y = torch.zeros_like(wide) if u.numel() else wide * k[:, :1, :1]
    for j, across in enumerate(lags(k.shape[2], causal)):
        columns = shift(wide.flatten(1, 2), across).unflatten(1, (D, H))
        for i, down in enumerate(lags(k.shape[1], causal)):
            rows = shift(columns.mT.flatten(1, 2), down).unflatten(1, (D, W)).mT
            y = y + k[:, i, j, None, None] * rows
    if skip is not None:
        y = y + skip[:, None, None] * wide
    return y.to(u.dtype)


def short_conv(
    u: Tensor,
    k: Tensor,
    bias: Tensor | None = None,
    *,
    causal: bool = True,
    segments: Segments | None = None,
) -> Tensor:
    """Definition of `hyena.ops.short_conv`: the same sum, plus a bias a channel; each row of taps
    (G, K) is that of D/G consecutive channels."""
    k = for_channels(u, k)
    short = (k, bias)
    _check.convolution("naive.short_conv", u, None, None, short, causal=causal, segments=segments)
    y = long_conv(u, k, causal=causal, segments=segments)
    return y if bias is None else y + bias[:, None].to(y.dtype)


def gated_conv(
    z: Tensor,
    k: Tensor,
    skip: Tensor | None = None,
    *,
    short: tuple[Tensor, Tensor | None] | None = None,
    causal: bool = True,
    segments: Segments | None = None,
) -> Tensor:
    r"""Definition of `hyena.ops.gated_conv`:

    .. math:: y = a \cdot \mathrm{long\_conv}(k, \mathrm{skip};\; b \cdot v)

    where a, b and v are the thirds of z (B, 3·D, L), after the short convolution if there is one.
    """
    options: dict[str, Any] = {"causal": causal, "segments": segments}
    _check.convolution("naive.gated_conv", z, k, skip, short, parts=3, backend="naive", **options)
    dtype = torch.promote_types(z.dtype, k.dtype)
    x = z.to(dtype)
    if short is not None:
        x = short_conv(x, *short, causal=causal, segments=segments)
    post, pre, value = x.chunk(3, dim=1)
    y = post * long_conv(pre * value, k, skip, causal=causal, segments=segments)
    return y.to(z.dtype)


def modal_conv(
    u: Tensor,
    log_decay: Tensor,
    weight: Tensor,
    skip: Tensor | None = None,
    *,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Definition of `hyena.ops.modal_conv`, position by position:

    .. math:: x_t = e^{\mathrm{log\_decay}}\,x_{t-1} + u_t, \qquad
        y_t = \mathrm{Re} \sum_n \mathrm{weight}_n\,x_{t,n} + \mathrm{skip}\;u_t

    where :math:`x_{-1}` is the state, or zero.
    """
    _check.modes("naive.modal_conv", u, log_decay, weight, skip, state)
    B, D, L = u.shape
    dtype = torch.float32
    for given in (u, weight, state):
        if given is not None:
            dtype = torch.promote_types(dtype, given.dtype)
    decay = log_decay.to(torch.promote_types(log_decay.dtype, dtype)).exp()
    decay, weight = (of_each_channel(x, D) for x in (decay, weight.to(dtype)))
    x = u.new_zeros(B, D, decay.shape[1], dtype=dtype) if state is None else state.to(dtype)
    y = []
    for t in range(L):
        x = decay * x + u[:, :, t, None]
        y.append((weight * x).real.sum(2))
    outputs = torch.stack(y, 2) if y else u * (decay * weight).real.sum()  # of no position
    if skip is not None:
        outputs = outputs + skip[:, None] * u
    return outputs.to(u.dtype), x.to(dtype)


def gated_modal_conv(
    z: Tensor,
    log_decay: Tensor,
    weight: Tensor,
    skip: Tensor | None = None,
    *,
    short: tuple[Tensor, Tensor | None] | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Definition of `hyena.ops.gated_modal_conv`: `modal_conv` in place of the long convolution in
    `gated_conv`."""
    modes = (log_decay, weight, skip)
    _check.modes("naive.gated_modal_conv", z, *modes, state, parts=3, short=short)
    x = z.to(torch.promote_types(z.dtype, log_decay.real.dtype))
    if short is not None:
        x = short_conv(x, *short)
    post, pre, value = x.chunk(3, dim=1)
    y, after = modal_conv(pre * value, *modes, state=state)
    return (post * y).to(z.dtype), after
