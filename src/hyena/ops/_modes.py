"""The convolution with sums of exponentials by PyTorch's own ops, on any device.

Within a chunk of P positions everything is a product of matrices: its outputs of its inputs, what
its inputs leave in the state, what the state before adds. The states before all chunks come of
log2(L/P) steps, each of which doubles how many chunks back a state has seen.

Sizes: B batch, D channels, L length, n modes, c chunks of P positions.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import _torch
from hyena.ops._convolution import Convolution

CHUNK = 64


def forward(
    c: Convolution, log_decay: Tensor, weight: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y (B, D, L) and the state after (B, D, n): short convolution, gates, and modes of each
    channel in place of the long convolution."""
    z = c.z if c.taps is None else _torch.forward(c._replace(parts=1, skip=None))
    if c.parts == 1:
        return _response(z, log_decay, weight, c.skip, state)
    post, pre, value = z.chunk(3, dim=1)
    y, after = _response(pre * value, log_decay, weight, c.skip, state)
    return post * y, after


def _response(
    u: Tensor, log_decay: Tensor, weight: Tensor, skip: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    B, D, L = u.shape
    dtype = torch.float32
    for given in (u, weight, state):
        if given is not None:
            dtype = torch.promote_types(dtype, given.dtype)
    weight = weight.to(dtype)
    if state is None:
        state = u.new_zeros(B, D, weight.shape[1], dtype=dtype)
    state = state.to(dtype)
    if u.numel() == 0:
        return _of_nothing(u, log_decay, weight, skip), state
    real = torch.float64 if dtype in (torch.float64, torch.complex128) else torch.float32
    P = min(CHUNK, L)
    chunks = -(-L // P)
    with _without_autocast(u):
        powers = _powers(log_decay, torch.arange(P + 1, device=u.device), dtype)  # (D, n, P + 1)
        x = F.pad(u.to(real), (0, chunks * P - L)).unflatten(2, (chunks, P))  # (B, D, c, P)
        rows = x.transpose(0, 1).flatten(1, 2)  # (D, B·c, P)
        before = _states(rows @ _left(powers[..., :P]), state, log_decay, P)  # (B, D, c, n)
        taps = (weight[..., None] * powers[..., :P]).real.sum(1)  # (D, P)
        lag = torch.arange(P, device=u.device)
        lag = lag[:, None] - lag
        within = taps[:, lag.clamp(min=0)].tril()  # (D, P, P)
        read = (weight[..., None] * powers[..., 1:]).transpose(1, 2)  # (D, P, n)
        from_before = before.transpose(0, 1).flatten(1, 2)  # (D, B·c, n)
        # Re(a·b) is the inner product of (Re a, Im a) and (Re b, −Im b).
        y = rows @ within.mT + _parts(from_before) @ _parts(read.conj()).mT
        y = y.unflatten(1, (B, chunks)).transpose(0, 1).flatten(2)[..., :L]
        if skip is not None:
            y = y + skip[:, None].to(real) * u.to(real)
        rest = L - (chunks - 1) * P  # positions of the last chunk
        last = x[:, :, -1, :rest].transpose(0, 1) @ _left(powers[..., :rest])  # (D, B, n)
        after = powers[..., rest] * before[:, :, -1] + _whole(last, dtype).transpose(0, 1)
    return y.to(u.dtype), after


def _of_nothing(u: Tensor, log_decay: Tensor, weight: Tensor, skip: Tensor | None) -> Tensor:
    """y of no row or no position; the gradients of the modes are zero and not missing."""
    y = u * (log_decay * weight).real.sum().to(u.dtype)
    return y if skip is None else y * skip.sum().to(u.dtype)


def _states(left: Tensor, state: Tensor, log_decay: Tensor, size: int) -> Tensor:
    """The states before each chunk (B, D, c, n), from what its inputs leave in the state behind it,
    (D, B·c, n) or its parts."""
    left = _whole(left, state.dtype).unflatten(1, (state.shape[0], -1)).transpose(0, 1)
    x = torch.cat([state[:, :, None], left[:, :, :-1]], 2)
    reach = 1
    while reach < x.shape[2]:
        decay = _powers(log_decay, torch.tensor([reach * size], device=x.device), x.dtype)[..., 0]
        x = torch.cat([x[:, :, :reach], x[:, :, reach:] + decay[:, None] * x[:, :, :-reach]], 2)
        reach *= 2
    return x


def _left(powers: Tensor) -> Tensor:
    """What each of r inputs leaves behind them, (D, r, n) or its parts; powers 0 … r − 1."""
    return _parts(powers.flip(-1).transpose(1, 2))


def _powers(log_decay: Tensor, t: Tensor, dtype: torch.dtype) -> Tensor:
    """e^{log_decay · t}, (D, n, positions), computed in float64 where there is such a type."""
    if log_decay.device.type != "mps":
        log_decay = log_decay.to(torch.promote_types(log_decay.dtype, torch.float64))
    return (log_decay[..., None] * t).exp().to(dtype)


def _parts(x: Tensor) -> Tensor:
    """Complex numbers as their real and imaginary parts side by side, (…, n) → (…, 2n)."""
    return torch.view_as_real(x.resolve_conj()).flatten(-2) if x.is_complex() else x


def _whole(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers of these parts, if they are complex."""
    return torch.view_as_complex(x.unflatten(-1, (-1, 2))) if dtype.is_complex else x


def _without_autocast(x: Tensor) -> AbstractContextManager[object]:
    if x.is_meta:  # which has no autocast to turn off
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)
