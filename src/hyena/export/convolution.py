"""The op ``hyena::conv`` written out in PyTorch's own ops, for programs that run without this
package.

Sizes: B batch, D channels, L length, K taps, J short taps; n = n₁·n₂ points of a transform.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn import functional as F

from hyena.export.quiet import quiet

MOST_DIRECT = 128
"""Taps of a filter that are summed one by one. Of more, a transform is less work."""

_STEP = 64  # transforms of any length have a multiple of this many points, so that most are quick

LongConv = Callable[[Tensor, Tensor], Tensor]
"""A causal convolution of u (B, D, L) with k (D, K), K ≤ L: (B, D, L), all of float32 or wider."""


def written_out(program: ExportedProgram, long_conv: LongConv) -> ExportedProgram:
    """The program with PyTorch's ops in place of ``hyena::conv``, its long filters by
    ``long_conv``."""

    def conv(
        z: Tensor,
        parts: int,
        filter: Tensor | None,
        n: int,
        skip: Tensor | None,
        taps: Tensor | None,
        bias: Tensor | None,
        lead: int,
        short_lead: int,
        ids: Tensor | None,
        native: bool = True,
    ) -> Tensor:
        assert n == 0  # no program that is exported holds a spectrum
        assert ids is None
        assert lead == short_lead == 0  # all causal, as language models are
        x = z if taps is None else direct(z, taps)
        if bias is not None:
            x = x + bias[:, None].to(x.dtype)
        if filter is None:
            return x
        post, u = None, x
        if parts == 3:
            post, before, value = x.chunk(3, dim=1)
            u = before * value
        dtype = torch.promote_types(torch.promote_types(u.dtype, filter.dtype), torch.float32)
        wide, k = u.to(dtype), filter.to(dtype)
        few = isinstance(k.shape[1], int) and k.shape[1] <= MOST_DIRECT
        y = direct(wide, k) if few else long_conv(wide, k)
        if skip is not None:
            y = y + skip[:, None].to(dtype) * wide
        y = y.to(z.dtype)
        return y if post is None else post * y

    table: dict[Any, Callable[..., Any]] = {torch.ops.hyena.conv.default: conv}
    with quiet(), torch.no_grad():
        return program.run_decompositions(table)


def direct(u: Tensor, k: Tensor) -> Tensor:
    """A causal convolution tap by tap, u (B, D, L) and k (D, K): in the dtype of u."""
    dtype = torch.promote_types(u.dtype, k.dtype)
    before = F.pad(u.to(dtype), (k.shape[1] - 1, 0))
    return F.conv1d(before, k.to(dtype).flip(1)[:, None], groups=k.shape[0]).to(u.dtype)


def by_fft(u: Tensor, k: Tensor) -> Tensor:
    """A `LongConv` through PyTorch's FFT."""
    L = u.shape[-1]
    n = 2 * _STEP * ((L + _STEP - 1) // _STEP)
    product = torch.fft.rfft(u, n=n) * torch.fft.rfft(k, n=n)
    return torch.fft.irfft(product, n=n)[..., :L]


class ByProducts:
    r"""A `LongConv` through transforms that are two matrix products each, in pairs of reals.

    With j = n₂ j₁ + j₂ and k = k₁ + n₁ k₂ (Bailey 1990, "FFTs in external or hierarchical memory")

    .. math:: U_k = \sum_{j_2} \omega_{n_2}^{j_2 k_2}\,\omega_n^{j_2 k_1}
        \sum_{j_1} \omega_{n_1}^{j_1 k_1}\,u_j, \qquad \omega_m = e^{-2 \pi i / m}

    so that u, as a matrix of n₁ rows and n₂ columns, is multiplied from the left, number by number,
    and from the right. The second half of its rows is zero, as a linear convolution needs it. Of
    real numbers, k₁ = 0 … n₁/2 is enough: the others are conjugates. The order of k does not matter
    where two transforms are multiplied.

    Runtimes know nothing but matrix products here, and take any length. Sums are of n₁/2 and n₂
    numbers, so that float32 keeps its digits.

    Args: longest: the longest L, for which n₁ ≈ 4·n₂ makes the products the least work.
    Attributes: example: an L that a program of any length is to be recorded with. It has three
        rows, since a size of 0 or 1 in an example is taken to be 0 or 1 always.
    """

    def __init__(self, longest: int) -> None:
        self._columns = max(2, 2 ** round(math.log2(longest / 2) / 2))
        self.example = 3 * self._columns - 1

    def __call__(self, u: Tensor, k: Tensor) -> Tensor:
        L, n2 = u.shape[-1], self._columns
        m = (L + n2 - 1) // n2  # rows that hold u
        n1, rows = 2 * m, m + 1  # and those of its transform
        c1, s1 = waves(rows, m, n1, u)
        c, s = waves(rows, n2, n1 * n2, u)
        c2, s2 = waves(n2, n2, n2, u)
        right = torch.cat([torch.cat([c2, -s2], dim=1), torch.cat([s2, c2], dim=1)])

        def transform(x: Tensor) -> tuple[Tensor, Tensor]:
            x = F.pad(x, (0, m * n2 - x.shape[-1])).unflatten(-1, (m, n2))
            real, imaginary = c1 @ x, -(s1 @ x)
            turned = real * c + imaginary * s, imaginary * c - real * s
            both = torch.cat(turned, dim=-1) @ right
            return both[..., :n2], both[..., n2:]

        (a, b), (p, q) = transform(u), transform(k)
        both = torch.cat([a * p - b * q, a * q + b * p], dim=-1) @ right.t()
        real, imaginary = both[..., :n2], both[..., n2:]
        # Conjugates count as well, but the first and the last row are their own.
        inner = real.new_full((m - 1, 1), 2.0)
        count = F.pad(inner, (0, 0, 1, 1), value=1.0) / (n1 * n2)
        real, imaginary = (real * c - imaginary * s) * count, (real * s + imaginary * c) * count
        y = c1.t() @ real - s1.t() @ imaginary
        return y.flatten(-2)[..., :L]


def waves(rows: int, columns: int, period: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2π·j·k/period, (rows, columns) each, in the dtype of ``like``."""
    j = torch.arange(rows, device=like.device).to(torch.float64)
    k = torch.arange(columns, device=like.device).to(torch.float64)
    turns = j[:, None] * k / period  # of many, float32 would know few digits
    angle = 2 * math.pi * (turns - turns.round())
    return angle.cos().to(like.dtype), angle.sin().to(like.dtype)
