"""Filters given by a ratio of polynomials.

Sizes: D channels, F filters a channel, C = F·D rows, N degree, m terms, L length.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.cache import ParameterCache, sources_of
from hyena.filters.drawing import draw_normal
from hyena.filters.exponentials import (
    exponential_sum,
    inside_the_circle,
    step_exponent,
    sum_of_exponentials,
)
from hyena.filters.flops import RECIPROCAL, FilterFlops, real_fft, spectrum_product
from hyena.filters.lengths import truncate
from hyena.filters.precision import wide, widest, without_autocast
from hyena.ops import fft, long_conv
from hyena.ops.arguments import check_size, check_sizes, placement
from hyena.ops.observed import differentiated, exporting

# A pole closer to zero is moved out to one of these: its powers vanish at once, and a weight is the
# size of the second tap over that of the pole. A channel takes the one that gives its taps best: a
# small one for a pole at zero, if the dtype has digits for the weight, a larger one for several.
_SMALLEST_POLES = (1e-3, 1e-4, 1e-6, 1e-8)


def _tolerance(dtype: torch.dtype) -> float:
    """Relative error of a recurrence up to which it is this filter, 1e-3 in float32 and 4e-8 in
    float64: two poles that coincide cost half of the digits, more poles cost more."""
    return 3 * math.sqrt(torch.finfo(dtype).eps)


class TransferFunctionTaps(nn.Module):
    r"""The impulse response of a transfer function b(z)/a(z) of degree N.

    .. math:: \sum_t h_t z^{-t} = \frac{b_0 + b_1 z^{-1} + \dots + b_N z^{-N}}
        {1 + a_1 z^{-1} + \dots + a_N z^{-N}}

    A filter of Poli et al. 2023 (arXiv:2302.10866, App. A.1). Dividing the polynomials' values at
    the L-th roots of unity would fold the response's tail back onto its beginning, and make taps
    depend on L. So the power series 1/a is found on a wider circle, of radius ρ, where a has no
    roots near and the tail that is folded back is ρ^{−n} of what it was, for n ≥ 4L points: less
    than rounding. All of this is in float64, or with rounding of float32 on devices without it.

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
        channels, degree, filters = check_sizes(
            "TransferFunctionTaps", channels=channels, degree=degree, filters=filters
        )
        place = placement("TransferFunctionTaps", device, dtype)
        self.reflection = nn.Parameter(torch.empty(filters, channels, degree, **place))
        self.numerator = nn.Parameter(torch.empty(filters, channels, degree + 1, **place))
        self.kept = ParameterCache()
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws both polynomials anew."""
        degree = self.reflection.shape[-1]
        bound = 1 / math.sqrt(degree + 1)
        draw_normal(self.reflection, std=1 / math.sqrt(degree), generator=generator)
        nn.init.uniform_(self.numerator, -bound, bound, generator=generator)

    def forward(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1: (F, D, length)."""
        return self.of_channels(length, slice(None))

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a slice of the channels."""
        length = check_size("TransferFunctionTaps", "length", length, 1)
        with without_autocast(self.reflection):
            exact = torch.promote_types(self.reflection.dtype, widest(self.reflection.device))
            a = _denominator(self.reflection[:, channels].to(exact)).flatten(0, 1)
            g: Tensor = differentiated(_Reciprocal, a, length)
            b = self.numerator[:, channels].to(exact).flatten(0, 1)
            # The op, which costs more, is what a program of any length can hold.
            h = long_conv(g[None], b) if exporting() else fft.convolve(g[None], b[:, :length], 0)
            h = h.to(wide(self.reflection.dtype))
        return h.view(self.numerator.shape[0], -1, length)

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length: the denominator's recursion, its
        reciprocal and the product with the numerator."""
        filters, channels, degree = self.reflection.shape
        taps = min(degree + 1, length)
        n, points = fft.fast_length(length + taps - 1), reciprocal_length(length, degree)
        transforms = 3 * real_fft(n) + 2 * real_fft(points)
        # the weights of the circle on a and on 1/a, and reciprocals of complex numbers
        inverse = degree + 1 + length + RECIPROCAL * (points // 2 + 1)
        pointwise = degree * (degree + 3) + inverse + spectrum_product(n)
        rows = filters * channels
        return FilterFlops(0, rows * transforms, rows * pointwise)

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """What taps[t] = 2 Re Σ weight · decay^t is made of: decay and weight, (F, D, m) complex.

        So x ← decay · x + u and y = 2 Re Σ weight · x is the same filter, step by step, with m
        between N/2 + 1 and N + 1; the roots of the denominator are its decays, and one of decay 0
        is for lag 0. Found in float64 without gradients, and kept until a parameter changes.

        Raises: ValueError if roots of a channel so nearly coincide that the weights cancel and in
            the parameters' precision no such recurrence is the filter.
        """
        return self.kept.get("recurrence", None, sources_of(self), self._recurrence)

    def state_after(self, u: Tensor, part: int) -> Tensor:
        """The x of filter ``part`` after the inputs u (B, D, L), L ≥ 1: (B, D, m) complex.

        In O(B·D·m·L) without a loop over the positions, and in memory that is bounded beside u.
        """
        return self.state_of_channels(u, part, slice(None))

    def state_of_channels(self, u: Tensor, part: int, channels: slice) -> Tensor:
        """`state_after` of a slice of the channels, whose inputs u are."""
        with without_autocast(self.reflection):
            decay = self.recurrence()[0][part, channels]
            return exponential_sum(u.to(decay.real.dtype), step_exponent(decay))

    @torch.no_grad()
    def _recurrence(self) -> tuple[Tensor, Tensor]:
        F_, D, N = self.reflection.shape
        place, dtype = self.reflection.device, wide(self.reflection.dtype)
        if self.reflection.is_meta:  # the most that there can be
            most = torch.empty(F_, D, N + 1, dtype=dtype.to_complex(), device=place)
            return most, most
        a = _denominator(self.reflection.cpu().double()).flatten(0, 1)
        b = self.numerator.cpu().double().flatten(0, 1)
        decay, weight, error = _best_recurrence(b, a, dtype)
        worst = int(error.argmax())
        if error[worst] > _tolerance(dtype):
            float64 = "generate in float64, or " if dtype == torch.float32 else ""
            raise ValueError(
                f"TransferFunctionTaps: the roots of channel {worst % D} nearly coincide, so that "
                f"a recurrence in {dtype} would be off by {float(error[worst]):.1e} of the filter, "
                f"more than {_tolerance(dtype):.0e}; {float64}distil the model, whose filters then "
                "have other roots"
            )
        return decay.view(F_, D, -1).to(place), weight.view(F_, D, -1).to(place)

    def denominator(self) -> Tensor:
        """1, a_1, …, a_N: (F, D, N + 1)."""
        return _denominator(self.reflection.to(wide(self.reflection.dtype)))

    def extra_repr(self) -> str:
        filters, channels, degree = self.reflection.shape
        return f"channels={channels}, degree={degree}, filters={filters}"


def _denominator(reflection: Tensor) -> Tensor:
    coefficients = reflection.tanh()
    one = torch.ones_like(coefficients[..., :1])
    zero = torch.zeros_like(one)
    a = one
    for k in coefficients.split(1, dim=-1):  # a polynomial of one degree more each time
        a = torch.cat([a, zero], dim=-1) + k * torch.cat([zero, a.flip(-1)], dim=-1)
    return a


def _best_recurrence(b: Tensor, a: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Decay and weight (C, m) in the complex of ``dtype``, and (C,) how far their taps are from the
    filter's, relative L2: of those with each of `_SMALLEST_POLES` the closest."""
    C, N = b.shape[0], b.shape[1] - 1
    lags = 4 * N + 64
    h = fft.convolve(_reciprocal(a, lags)[None], b, 0)[0]
    size = h.norm(dim=-1).clamp(min=torch.finfo(dtype).tiny)
    poles, idle = _poles(b, a)
    tried, errors = [], []
    for smallest in _SMALLEST_POLES:
        terms = _partial_fractions(b, a, _moved_out(poles, smallest), idle)
        decay = inside_the_circle(terms[0], dtype.to_complex())
        weight = terms[1].to(dtype.to_complex())
        found = sum_of_exponentials(weight, step_exponent(decay), lags)
        tried.append((decay, weight))
        errors.append(((found - h).norm(dim=-1) / size).nan_to_num(nan=math.inf))
    error, best = torch.stack(errors).min(dim=0)
    decay, weight = (torch.stack(each)[best, torch.arange(C)] for each in zip(*tried, strict=True))
    return decay, weight, error


def _poles(b: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """The roots (C, N) of a (C, N + 1), and which of them are roots of both polynomials, at zero
    because both end before N."""
    C, N = b.shape[0], b.shape[1] - 1
    companion = torch.zeros(C, N, N, dtype=a.dtype, device=a.device)
    companion[:, 0] = -a[:, 1:]
    companion.diagonal(-1, 1, 2).fill_(1)
    p = torch.linalg.eigvals(companion)
    degree = _degree(b, a)
    return p, p.abs().argsort(1, descending=True).argsort(1) >= degree


def _degree(b: Tensor, a: Tensor) -> Tensor:
    """Of the longer polynomial, (C, 1)."""
    N = b.shape[1] - 1
    return N - ((a[:, 1:] == 0) & (b[:, 1:] == 0)).flip(1).cumprod(1).sum(1, keepdim=True)


def _moved_out(p: Tensor, smallest: float) -> Tensor:
    """Poles of at least this modulus."""
    modulus = p.abs()
    moved = torch.where(modulus > 0, p / modulus, 1.0) * smallest
    return torch.where(modulus < smallest, moved, p)


def _partial_fractions(b: Tensor, a: Tensor, p: Tensor, idle: Tensor) -> tuple[Tensor, Tensor]:
    r"""The power series of b(z)/a(z) as exponentials, by the roots p of a.

    With b_0 taken out the ratio is strictly proper, and for poles that differ

    .. math:: h_t = \sum_i r_i\,p_i^{t-1} \ (t \ge 1), \qquad
        r_i = \frac{\sum_{k=1}^{N} (b_k - b_0 a_k)\,p_i^{N-k}}{\prod_{j \ne i} (p_i - p_j)} .

    Of a conjugate pair one is kept. A last term with decay 0 is what lag 0 has beside the others.
    Where poles nearly coincide the weights are large and cancel: compare the taps.

    Args: b and a, each (C, N + 1) real, a_0 = 1; `_poles`, none at zero but idle ones.
    Returns: decay and weight (C, m) complex128 of h_t = 2 Re Σ_i weight_i · decay_i^t, m ≤ N + 1;
        terms that a channel does not need have weight 0.
    """
    degree = _degree(b, a)
    value = torch.zeros_like(p)
    for k, coefficient in enumerate((b - b[:, :1] * a)[:, 1:].unbind(1), start=1):
        value = torch.where(k <= degree, value * p + coefficient[:, None], value)
    apart = torch.where(idle[:, None, :], 1.0, p[:, :, None] - p[:, None, :])
    apart.diagonal(0, 1, 2).fill_(1)
    weight = torch.where(idle, 0.0, value / apart.prod(-1) / p)
    weight = torch.where(p.imag == 0, weight / 2, weight)

    kept = (p.imag >= 0) & ~idle
    first = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : int(kept.sum(1).max())]
    p = torch.where(kept, p, 0).gather(1, first)
    weight = torch.where(kept, weight, 0).gather(1, first)
    rest = b[:, :1] / 2 - weight.real.sum(1, keepdim=True)
    decay = torch.cat([p, torch.zeros_like(p[:, :1])], dim=1)
    return decay, torch.cat([weight, rest.to(weight.dtype)], dim=1)


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
    """1/a at n points of the circle ρ, and back: the weights ρ^t cost a quarter of the digits."""
    n = reciprocal_length(length, a.shape[1] - 1)
    log_radius = -math.log(torch.finfo(a.dtype).eps) / n

    def inward(count: int) -> Tensor:
        return torch.exp(-log_radius * torch.arange(count, dtype=a.dtype, device=a.device))

    spectrum = torch.fft.rfft(a * inward(a.shape[1]), n=n)
    g = torch.fft.irfft(spectrum.reciprocal(), n=n)
    return truncate(g, length) / inward(length)


def reciprocal_length(length: int, degree: int) -> int:
    """Points at which a denominator is evaluated for so many taps."""
    least = max(4 * length, 2 * (degree + 1))
    return 4 * length + 2 * (degree + 1) if exporting() else fft.fast_length(least)
