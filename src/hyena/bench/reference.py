"""The truth that what is timed is compared with first, in float64, and how far it may be off.

Sizes: B batch, L length, D width, H heads, E head size, R compared positions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Relative L2 errors that a contender may show and still be timed: several times those of rounding.
# The operator's filter network amplifies it, the gradient of a filter that channels share is a sum
# over all of their positions, and attention's gradients in q and k are differences of nearly equal
# numbers where the sequence is long.
CONV_TOLERANCE = 2e-6
OPERATOR_TOLERANCE = 2e-5
STRIPED_TOLERANCE = 5e-6
ATTENTION_TOLERANCE = 1e-4
BF16_TOLERANCE = 5e-2

ROWS = 16  # positions at which attention is compared
HEAD = 64


def relative_error(got: Tensor, expected: Tensor) -> float:
    """‖got − expected‖ / ‖expected‖ in float64 on the CPU, NaN if a value of ``got`` is."""
    got, expected = (x.detach().cpu().double() for x in (got, expected))
    return float((got - expected).norm() / expected.norm())


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


def head_size(width: int) -> int:
    """E: 64, or the width if that is smaller; ValueError if heads of 64 do not divide it."""
    if width > HEAD and width % HEAD:
        raise ValueError(f"attention has heads of {HEAD}, but width is {width}; take a multiple")
    return min(HEAD, width)


@contextmanager
def seeded() -> Iterator[None]:
    """PyTorch's modules draw their weights from the global generator: the same ones each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
