"""The truth that every timed call is compared with first, in float64.

Sizes: B batch, D channels, L length, H heads, E head size.
"""

import torch
from torch import Tensor

from hyena.bench.rivals import public_gated_conv
from hyena.ops import naive

# Up to so many multiply-adds a channel pair the truth is the definition, a sum over lags.
NAIVE = 1 << 25
# Elements of (channels, L): of larger tensors, that many channels, spread evenly, are compared.
ELEMENTS = 1 << 23
ROWS = 16  # positions at which attention is compared
_CHUNK = 1 << 21  # elements transformed at once


def relative_error(got: Tensor, expected: Tensor) -> float:
    """‖got − expected‖ / ‖expected‖ in float64, NaN if a value of ``got`` is."""
    got, expected = got.detach().double(), expected.detach().double()
    return float((got - expected).norm() / expected.norm())


def compared_channels(width: int, length: int) -> Tensor:
    """The channels that are compared: all, or for large tensors some of them, spread evenly."""
    count = min(width, max(1, ELEMENTS // length))
    return torch.linspace(0, width - 1, count).round().long().unique()


def of_channels(z: Tensor, channels: Tensor) -> Tensor:
    """Post gate, pre gate and value of some channels of z (B, 3D, L): (B, 3·channels, L)."""
    return z.unflatten(1, (3, -1))[:, :, channels].flatten(1, 2)


def gated_conv(z: Tensor, k: Tensor, skip: Tensor, dy: Tensor | None = None) -> dict[str, Tensor]:
    """y, and if dy is given the gradients of sum(dy · y), in float64.

    Args: z (B, 3D, L), k (D, L), skip (D,), dy (B, D, L).
    Returns: "y", and "z", "k" and "skip" for their gradients.
    """
    D, L = k.shape
    by_definition = D * L * L <= NAIVE
    step = D if by_definition else max(1, _CHUNK // (L * z.shape[0]))
    parts: list[dict[str, Tensor]] = []
    for start in range(0, D, step):
        some = torch.arange(start, min(start + step, D))
        leaves = [x.double() for x in (of_channels(z, some), k[some], skip[some])]
        if dy is not None:
            leaves = [x.requires_grad_() for x in leaves]
        y = (naive.gated_conv if by_definition else public_gated_conv)(*leaves)
        part = {"y": y.detach()}
        if dy is not None:
            gradients = torch.autograd.grad(y, leaves, dy[:, some].double())
            part.update(zip(("z", "k", "skip"), gradients, strict=True))
            part["z"] = part["z"].unflatten(1, (3, -1))
        parts.append(part)
    whole = {
        name: torch.cat([part[name] for part in parts], dim={"y": 1, "z": 2}.get(name, 0))
        for name in parts[0]
    }
    if "z" in whole:
        whole["z"] = whole["z"].flatten(1, 2)
    return whole


def compared_rows(length: int) -> Tensor:
    """The positions at which attention is compared, spread evenly, the last one included."""
    return torch.linspace(0, length - 1, min(length, ROWS)).round().long().unique()


def attention(q: Tensor, k: Tensor, v: Tensor, rows: Tensor) -> Tensor:
    """Causal softmax attention at some positions, from its definition.

    q, k, v (B, H, L, E), rows (R,) → (B, H, R, E).
    """
    scores = q[:, :, rows] @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B, H, R, L)
    future = torch.arange(k.shape[-2])[None, :] > rows[:, None]
    return scores.masked_fill(future, -torch.inf).softmax(-1) @ v
