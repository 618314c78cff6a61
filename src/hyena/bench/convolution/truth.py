"""The truth of a gated convolution in float64, from its definition where that is quick enough.

Sizes: B batch, D channels, L length, J taps of the short convolution.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hyena.bench.convolution.baselines import public_gated_conv, public_short_conv
from hyena.ops import naive

# Up to so many multiply-adds a channel pair the truth is the definition, a sum over lags.
NAIVE = 1 << 25
# Elements of (channels, L): of larger tensors, that many channels, spread evenly, are compared.
ELEMENTS = 1 << 23
_CHUNK = 1 << 21  # elements transformed at once

ARGUMENTS = ("z", "k", "skip", "taps", "bias")
"""Names of the arguments of `gated_conv`."""


def compared_channels(width: int, length: int) -> Tensor:
    """The channels that are compared: all, or for large tensors some of them, spread evenly."""
    count = min(width, max(1, ELEMENTS // length))
    return torch.linspace(0, width - 1, count).round().long().unique()


def of_channels(z: Tensor, channels: Tensor) -> Tensor:
    """Post gate, pre gate and value of some channels of z (B, 3D, ...): (B, 3·channels, ...)."""
    return z.unflatten(1, (3, -1))[:, :, channels].flatten(1, 2)


def gated_conv(
    z: Tensor,
    k: Tensor,
    skip: Tensor,
    taps: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    dy: Tensor | None = None,
) -> dict[str, Tensor]:
    """y, and if dy is given the gradients of sum(dy · y), in float64.

    Args: z (B, 3D, L), k (D, L), skip (D,), and of a short convolution taps (3D, J) and bias (3D,);
        dy (B, D, L).
    Returns: "y", and the name of each argument for its gradient.
    """
    D, L = k.shape
    by_definition = D * L * L <= NAIVE
    step = D if by_definition else max(1, _CHUNK // (L * z.shape[0]))
    parts: list[dict[str, Tensor]] = []
    for start in range(0, D, step):
        some = torch.arange(start, min(start + step, D))
        leaves = [x.double() for x in arguments_of(some, z, k, skip, taps, bias)]
        if dy is not None:
            leaves = [x.requires_grad_() for x in leaves]
        y = _by_definition(*leaves) if by_definition else _by_transforms(*leaves)
        part = {"y": y.detach()}
        if dy is not None:
            gradients = torch.autograd.grad(y, leaves, dy[:, some].double())
            part.update(zip(ARGUMENTS, gradients, strict=False))
        parts.append(part)
    return {name: _of_all_channels(name, [part[name] for part in parts]) for name in parts[0]}


def arguments_of(
    channels: Tensor,
    z: Tensor,
    k: Tensor,
    skip: Tensor,
    taps: Tensor | None = None,
    bias: Tensor | None = None,
) -> list[Tensor]:
    """What some channels have of each argument."""
    found = [of_channels(z, channels), k[channels], skip[channels]]
    for x in (taps, bias):
        if x is not None:
            found.append(of_channels(x[None], channels)[0])
    return found


def _by_definition(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor) -> Tensor:
    return naive.gated_conv(z, k, skip, short=(short[0], short[1]) if short else None)


def _by_transforms(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor) -> Tensor:
    return public_gated_conv(public_short_conv(z, *short) if short else z, k, skip)


def _of_all_channels(name: str, parts: Sequence[Tensor]) -> Tensor:
    """The parts put together again; z, taps and bias hold three blocks of channels."""
    if name in ("y", "k", "skip"):
        return torch.cat(list(parts), dim=1 if name == "y" else 0)
    dim = 1 if name == "z" else 0
    return torch.cat([x.unflatten(dim, (3, -1)) for x in parts], dim=dim + 1).flatten(dim, dim + 1)
