"""The truth of a gated convolution in float64, from its definition where that is quick enough.

Sizes: B batch, D channels, L length, J taps of the short convolution.
"""

import torch
from torch import Tensor

from hyena.bench.convolution.baselines import public_gated_conv
from hyena.bench.convolution.contender import in_float64
from hyena.ops import naive

# Up to so many multiply-adds a channel pair the truth is the definition, a sum over lags.
NAIVE = 1 << 25
# Elements of (channels, L): of larger tensors, that many channels, spread evenly, are compared.
ELEMENTS = 1 << 22

ARGUMENTS = ("z", "k", "skip", "taps", "bias")
"""Names of the arguments of `gated_conv`."""


def compared_channels(width: int, length: int) -> Tensor:
    """The channels that are compared: all, or for large tensors some of them, spread evenly."""
    count = min(width, max(1, ELEMENTS // length))
    return torch.linspace(0, width - 1, count).round().long().unique()


def of_channels(z: Tensor, channels: Tensor) -> Tensor:
    """Post gate, pre gate and value of some channels of z (B, 3D, ...): (B, 3·channels, ...)."""
    return z.unflatten(1, (3, -1))[:, :, channels].flatten(1, 2)


def gated_conv(*given: Tensor, dy: Tensor | None = None) -> dict[str, Tensor]:
    """y, and if dy is given the gradients of sum(dy · y), in float64.

    Args: given, z (B, 3D, L), k (D, L), skip (D,), and of a short convolution taps (3D, J) and
        bias (3D,); dy (B, D, L).
    Returns: "y", and the name of each argument for its gradient.
    """
    leaves = [x.double().requires_grad_(dy is not None) for x in given]
    f = _by_definition if given[1].numel() * given[1].shape[1] <= NAIVE else public_gated_conv
    return in_float64(f, leaves, dict(zip(ARGUMENTS, leaves, strict=False)), dy)


def _by_definition(z: Tensor, k: Tensor, skip: Tensor, *short: Tensor) -> Tensor:
    return naive.gated_conv(z, k, skip, short=(short[0], short[1]) if short else None)


def arguments_of(
    channels: Tensor, z: Tensor, k: Tensor, skip: Tensor, *short: Tensor
) -> list[Tensor]:
    """What some channels have of each argument."""
    taps_and_bias = (of_channels(x[None], channels)[0] for x in short)
    return [of_channels(z, channels), k[channels], skip[channels], *taps_and_bias]
