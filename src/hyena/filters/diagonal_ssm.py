"""Diagonal state spaces as filters: S4D.

Sizes: D channels, F filters a channel, n numbers in the state of a channel, L length.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from hyena.arguments import shown
from hyena.filters.drawing import draw_normal
from hyena.filters.exponentials import (
    exponential_sum,
    step_factor,
    sum_flops,
    sum_of_exponentials,
)
from hyena.filters.flops import FilterFlops
from hyena.filters.precision import wide, without_autocast
from hyena.ops.arguments import check_numbers, check_size, check_sizes, placement

_REAL_PART = -0.5  # of every pole at first


class DiagonalSSM(nn.Module):
    r"""Impulse responses of diagonal state spaces (Gu et al. 2022, arXiv:2206.11893: S4D).

    .. math::

        x'(t) = A x(t) + u(t),\quad y(t) = 2\,\mathrm{Re}\,(C \cdot x(t)),\qquad
        h_t = 2\,\mathrm{Re} \sum_{i=1}^{n/2} C_i \frac{e^{\Delta A_i} - 1}{A_i} e^{t \Delta A_i}

    The n poles A come in conjugate pairs, of which one is kept; the input is held for a step Δ of
    its own in each channel (zero-order hold). Inputs enter with weight 1, since only the product
    with C matters. Poles stay in the left half plane: Re A = −exp(log_decay).

    Step sizes are drawn from ``dt_min`` to ``dt_max``, evenly on a logarithmic scale, C from a
    complex normal distribution of variance 1. The i-th pole starts, for i = 0 … n/2 − 1, at

    - "lin" (S4D-Lin): −1/2 + iπ·√−1
    - "inv" (S4D-Inv): −1/2 + (n/π)(n/(2i + 1) − 1)·√−1

    Args:
        channels: D.
        filters: F.
        state: n, even.
        dt_min, dt_max: bounds of the initial step sizes.
        initial: "lin" or "inv".
        device, dtype: of the parameters; the filters are computed in float32 or wider.

    Shape: taps(L) → (F, D, L). The skip is beside it, see `hyena.filters.LongFilter`.
    Raises: ValueError on settings that cannot be.
    """

    def __init__(
        self,
        channels: int,
        *,
        filters: int = 1,
        state: int = 64,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        initial: Literal["lin", "inv"] = "lin",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, filters, state = check_sizes(
            "DiagonalSSM", channels=channels, filters=filters, state=state
        )
        dt_min, dt_max = check_numbers("DiagonalSSM", dt_min=dt_min, dt_max=dt_max)
        if state % 2:
            raise ValueError(
                f"DiagonalSSM: expected an even state ≥ 2, since poles come in pairs, got {state}"
            )
        if not 0 < dt_min <= dt_max:
            raise ValueError(
                f"DiagonalSSM: expected 0 < dt_min ≤ dt_max, got dt_min={dt_min}, dt_max={dt_max}"
            )
        if not isinstance(initial, str) or initial not in ("lin", "inv"):
            raise ValueError(f'DiagonalSSM: expected initial "lin" or "inv", got {shown(initial)}')
        self.channels, self.filters, self.state = channels, filters, state
        self.dt_min, self.dt_max, self.initial = dt_min, dt_max, initial
        place = placement("DiagonalSSM", device, dtype)
        poles = (filters, channels, state // 2)
        self.log_step = nn.Parameter(torch.empty(filters, channels, **place))
        self.log_decay = nn.Parameter(torch.full(poles, math.log(-_REAL_PART), **place))
        frequency = torch.tensor(_frequencies(state, initial), **place)
        self.frequency = nn.Parameter(frequency.expand(poles).clone())
        self.weight = nn.Parameter(torch.empty(*poles, 2, **place))  # C: real and imaginary parts
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws step sizes and weights anew."""
        low, high = math.log(self.dt_min), math.log(self.dt_max)
        nn.init.uniform_(self.log_step, low, high, generator=generator)
        draw_normal(self.weight, std=math.sqrt(0.5), generator=generator)

    def forward(self, length: int) -> Tensor:
        """The impulse responses at lags 0 … length − 1: (F, D, length)."""
        return self.of_channels(length, slice(None))

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The impulse responses (F, d, length) of a slice of the channels."""
        length = check_size("DiagonalSSM", "length", length, 1)
        with without_autocast(self.log_step):
            exponent, weight = self._discrete(channels)
            h = sum_of_exponentials(weight.flatten(0, 1), exponent.flatten(0, 1), length)
        return h.view(self.filters, -1, length)

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """What taps[t] = 2 Re Σ weight · decay^t is made of: decay and weight, (F, D, n/2) complex.

        So x ← decay · x + u and y = 2 Re Σ weight · x is the same filter, step by step. A decay is
        rounded to its dtype, so that a mode that lives for T steps is followed to about T times the
        precision.
        """
        with without_autocast(self.log_step):
            exponent, weight = self._discrete()
            return step_factor(exponent), weight

    def exponentials(self) -> tuple[Tensor, Tensor]:
        """exponent and weight (F, D, n/2) of 2 Re Σ weight · e^{t · exponent}, complex."""
        with without_autocast(self.log_step):
            return self._discrete()

    def state_after(self, u: Tensor, part: int) -> Tensor:
        """The x of filter ``part`` after the inputs u (B, D, L), L ≥ 1: (B, D, n/2) complex.

        In O(B·D·n·L) without a loop over the positions, and in memory that is bounded beside u.
        """
        return self.state_of_channels(u, part, slice(None))

    def state_of_channels(self, u: Tensor, part: int, channels: slice) -> Tensor:
        """`state_after` of a slice of the channels, whose inputs u are."""
        with without_autocast(self.log_step):
            exponent, _ = self._discrete(channels)
            return exponential_sum(u.to(exponent.real.dtype), exponent[part])

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length."""
        return sum_flops(self.filters * self.channels, self.state // 2, length)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, filters={self.filters}, state={self.state}"

    def _discrete(self, channels: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """log(decay) and weight of the recurrence."""
        parameters = self.log_step, self.log_decay, self.frequency, self.weight
        dtype = wide(self.log_step.dtype)
        log_step, log_decay, frequency, weight = (p[:, channels].to(dtype) for p in parameters)
        pole = torch.complex(-log_decay.exp(), frequency)
        exponent = log_step.exp()[..., None] * pole
        weight = torch.view_as_complex(weight.contiguous())
        return exponent, weight * torch.expm1(exponent) / pole


def _frequencies(state: int, initial: str) -> list[float]:
    """Imaginary parts of the initial poles."""
    if initial == "lin":
        return [math.pi * i for i in range(state // 2)]
    return [state / math.pi * (state / (2 * i + 1) - 1) for i in range(state // 2)]
