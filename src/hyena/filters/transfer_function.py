"""Filters given by a ratio of polynomials.

Sizes: D channels, F filters a channel, N degree, L length.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.precision import wide, without_autocast
from hyena.ops import fft


class TransferFunctionTaps(nn.Module):
    r"""The impulse response of a transfer function b(z)/a(z) of degree N.

    .. math:: \sum_t h_t z^{-t} = \frac{b_0 + b_1 z^{-1} + \dots + b_N z^{-N}}
        {1 + a_1 z^{-1} + \dots + a_N z^{-N}}

    A filter of Poli et al. 2023 (arXiv:2302.10866, App. A.1). Dividing the polynomials' values at
    the L-th roots of unity would fold the response's tail back onto its beginning, and make taps
    depend on L. So the power series 1/a is computed instead, exactly up to rounding, by Newton's
    iteration g ← g·(2 − a·g), which doubles the number of right taps with three FFTs.

    The denominator comes from N reflection coefficients tanh(reflection), each within ±1, through
    the recursion of Schur and Levinson. These are all the polynomials with every root inside the
    unit circle and no others, so that the filter is stable, in training too. They are drawn from
    N(0, 1/N): with coefficients k, ‖1/a‖² = Π 1/(1 − k²), which is then about e. The numerator is
    drawn as `torch.nn.Conv1d` draws its taps.

    Args: channels D; degree N; filters F; device and dtype of the parameters.
    Shape: taps(L) → (F, D, L), in float32 or wider.
    Raises: ValueError if a size is below 1.
    """

    def __init__(
        self,
        channels: int,
        degree: int,
        *,
        filters: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("degree", degree), ("filters", filters)):
            if value < 1:
                raise ValueError(f"TransferFunctionTaps: expected {name} ≥ 1, got {value}")
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.reflection = nn.Parameter(torch.empty(filters, channels, degree, **place))
        self.numerator = nn.Parameter(torch.empty(filters, channels, degree + 1, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws both polynomials anew."""
        degree = self.reflection.shape[-1]
        bound = 1 / math.sqrt(degree + 1)
        nn.init.normal_(self.reflection, std=1 / math.sqrt(degree), generator=generator)
        nn.init.uniform_(self.numerator, -bound, bound, generator=generator)

    def forward(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1: (F, D, length)."""
        if length < 1:
            raise ValueError(f"TransferFunctionTaps: expected a length ≥ 1, got {length}")
        with without_autocast(self.reflection):
            g: Tensor = _Reciprocal.apply(self.denominator().flatten(0, 1), length)
            b = self.numerator[..., :length].to(g.dtype).flatten(0, 1)
            h = fft.convolve(g[None], b, 0)
        return h.view(self.numerator.shape[0], -1, length)

    def denominator(self) -> Tensor:
        """1, a_1, …, a_N: (F, D, N + 1)."""
        coefficients = self.reflection.to(wide(self.reflection.dtype)).tanh()
        one = torch.ones_like(coefficients[..., :1])
        zero = torch.zeros_like(one)
        a = one
        for k in coefficients.split(1, dim=-1):  # a polynomial of one degree more each time
            a = torch.cat([a, zero], dim=-1) + k * torch.cat([zero, a.flip(-1)], dim=-1)
        return a

    def extra_repr(self) -> str:
        filters, channels, degree = self.reflection.shape
        return f"channels={channels}, degree={degree}, filters={filters}"


class _Reciprocal(torch.autograd.Function):
    """The first L coefficients of the power series 1/a: a (C, N + 1) with a_0 = 1 → g (C, L).

    Only a and g are kept for the backward pass, and g moves by −g²·da.
    """

    @staticmethod
    def forward(a: Tensor, length: int) -> Tensor:
        g = a.new_empty(a.shape[0], length)
        for part in fft.chunks(g[None], length + a.shape[1]):
            g[part] = _reciprocal(a[part], length)
        return g

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, dg: Tensor) -> tuple[Tensor, None]:
        a, g = ctx.saved_tensors
        square = fft.convolve(g[None], g, 0)
        used = a[:, : g.shape[1]]
        _, da = fft.Adjoint.apply(-dg[None], square, used, 0, False, True)
        return F.pad(da, (0, a.shape[1] - used.shape[1])), None


def _reciprocal(a: Tensor, length: int) -> Tensor:
    """Newton's iteration, from half the length."""
    if length == 1:
        return torch.ones_like(a[:, :1])
    g = _reciprocal(a, -(-length // 2))
    a = a[:, :length]
    n = fft.fast_length(a.shape[1] + 2 * g.shape[1] - 2)  # of a·g², so that nothing wraps around
    g_spectrum = torch.fft.rfft(g, n=n)
    g_spectrum = g_spectrum * (2 - torch.fft.rfft(a, n=n) * g_spectrum)
    return torch.fft.irfft(g_spectrum, n=n)[:, :length]
