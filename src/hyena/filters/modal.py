r"""Filters that are sums of exponentials, by their poles and residues.

Sizes: D channels, F filters a channel, G groups of channels, S modes, B batch, L length.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hyena.filters.drawing import draw_normal
from hyena.filters.exponentials import exponential_sum, sum_flops, sum_of_exponentials
from hyena.filters.flops import FilterFlops
from hyena.filters.groups import check_groups, over_channels
from hyena.filters.precision import wide, widest, without_autocast
from hyena.ops.arguments import check_size, check_sizes, placement

_SLOWEST, _FASTEST = 1e-3, 1e-1  # initial step sizes and rates


class ModalTaps(nn.Module):
    r"""A sum of damped waves (Massaroli et al. 2023, arXiv:2310.18780; StripedHyena).

    .. math:: h_t = \mathrm{Re} \sum_{s=1}^{S} R_s\,p_s^t

    Residues R and poles p are complex parameters, in pairs of real numbers. Powers are computed in
    float64, so that they are exact after millions of positions, gradients too, wherever inside the
    unit circle a pole lies, at zero as well. Nothing keeps a pole inside: taps of one outside grow
    without bound. Keep the parameters in float32: 16 bits round poles near the circle to the other
    side.

    The first poles and residues are those of a `DiagonalSSM` with its defaults:
    :math:`p_s = e^{\Delta(-1/2 + i \pi s)}` with step sizes Δ of their own in each group.

    Args:
        channels: D.
        modes: S.
        filters: F.
        groups: G filters, each of D/G neighbouring channels; None is one a channel.
        device, dtype: of the parameters; the filters are computed in float32 or wider.

    Attributes: ``poles`` and ``residues``, (F, G, S, 2), real and imaginary parts.
    Shape: taps(L) → (F, D, L).
    Raises: ValueError if a size is below 1, and if the groups do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        modes: int,
        *,
        filters: int = 1,
        groups: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, modes, filters = check_sizes(
            "ModalTaps", channels=channels, modes=modes, filters=filters
        )
        self.channels = channels
        self.groups = check_groups("ModalTaps", channels, groups)
        place = placement("ModalTaps", device, dtype)
        self.poles = nn.Parameter(torch.empty(filters, self.groups, modes, 2, **place))
        self.residues = nn.Parameter(torch.empty(filters, self.groups, modes, 2, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws poles and residues anew."""
        if self.poles.is_meta:
            return
        _, _, modes, _ = self.poles.shape
        step = self.poles.new_empty(self.poles.shape[:2], dtype=wide(self.poles.dtype))
        nn.init.uniform_(step, math.log(_SLOWEST), math.log(_FASTEST), generator=generator)
        frequency = math.pi * torch.arange(modes, dtype=step.dtype, device=step.device)
        rate = torch.complex(torch.full_like(frequency, -0.5), frequency)
        exponent = step.exp()[..., None] * rate
        self.poles.copy_(torch.view_as_real(exponent.exp()))
        draw_normal(self.residues, std=math.sqrt(0.5), generator=generator)
        drawn = _complex(self.residues.to(step.dtype))
        self.residues.copy_(torch.view_as_real(2 * drawn * torch.expm1(exponent) / rate))

    def forward(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1: (F, D, length)."""
        return self.of_channels(length, slice(None))

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a slice of the channels."""
        length = check_size("ModalTaps", "length", length, 1)

        def taps(groups: slice) -> Tensor:
            exponent = self._exponent(groups).flatten(0, 1)
            weight = self._weight(groups).flatten(0, 1)
            h = sum_of_exponentials(weight, exponent, length)
            return h.view(self.poles.shape[0], -1, length)

        with without_autocast(self.poles):
            return self._of_channels(taps, channels)

    @property
    def modes_sizes(self) -> tuple[int, int]:
        """S modes of a channel, of two numbers each."""
        return self.poles.shape[2], 2

    def modes(self, channels: slice) -> tuple[Tensor, Tensor]:
        """The logarithms of p, in float64, and R of a slice of the channels, (F, d, S) complex."""
        exponent = self._of_channels(self._exponent, channels)
        return exponent, 2 * self._of_channels(self._weight, channels)

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """What taps[t] = 2 Re Σ weight · decay^t is made of: decay and weight, (F, D, S) complex;
        the decays are the poles as they are."""
        with without_autocast(self.poles):
            poles = _complex(self.poles.to(wide(self.poles.dtype)))
            decay = self._of_channels(lambda groups: poles[:, groups])
            return decay, self._of_channels(self._weight)

    def exponentials(self) -> tuple[Tensor, Tensor]:
        """exponent and weight (F, D, S) of taps[t] = 2 Re Σ weight · e^{t · exponent}: complex, the
        exponents in float64."""
        with without_autocast(self.poles):
            return self._of_channels(self._exponent), self._of_channels(self._weight)

    def state_after(self, u: Tensor, part: int) -> Tensor:
        """The x ← decay · x + u of filter ``part`` after the inputs u (B, D, L), L ≥ 1: (B, D, S)
        complex.

        In O(B·D·S·L) without a loop over the positions, and in memory that is bounded beside u.
        """
        return self.state_of_channels(u, part, slice(None))

    def state_of_channels(self, u: Tensor, part: int, channels: slice) -> Tensor:
        """`state_after` of a slice of the channels, whose inputs u are."""
        with without_autocast(self.poles):
            exponent = self._of_channels(self._exponent, channels)[part]
            return exponential_sum(u.to(wide(self.poles.dtype)), exponent)

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length."""
        filters, groups, modes, _ = self.poles.shape
        return sum_flops(filters * groups, modes, length)

    def extra_repr(self) -> str:
        filters, groups, modes, _ = self.poles.shape
        return f"channels={self.channels}, modes={modes}, filters={filters}, groups={groups}"

    def _of_channels(
        self, of_groups: Callable[[slice], Tensor], channels: slice = slice(None)
    ) -> Tensor:
        return over_channels(of_groups, self.groups, self.channels // self.groups, channels)

    def _weight(self, groups: slice) -> Tensor:
        """Half the residues, (F, g, S) complex."""
        return _complex(self.residues[:, groups].to(wide(self.residues.dtype))) / 2

    def _exponent(self, groups: slice) -> Tensor:
        """The logarithms of the poles, (F, g, S) complex, in float64."""
        precise = torch.promote_types(self.poles.dtype, widest(self.poles.device))
        real, imaginary = self.poles[:, groups].to(precise).unbind(-1)
        # Neither modulus nor angle of a pole at zero has a derivative. Moved by so little, its
        # taps are the same, and what their derivatives are made of has not vanished.
        least = torch.finfo(precise).tiny ** 0.25
        at_zero = (real.abs() < least) & (imaginary.abs() < least)
        real = torch.where(at_zero, real + least, real)
        modulus = (real.square() + imaginary.square()).log() / 2
        return torch.complex(modulus, torch.atan2(imaginary, real))


class RealModalTaps(nn.Module):
    r"""A sum of decays (the LI filter of Ku et al. 2025, arXiv:2503.01868; StripedHyena 2).

    .. math:: h_t = \sum_{n=1}^{S} R_n\,e^{\lambda_n t}

    Nothing keeps the exponents λ below zero: taps of one above grow without bound. At first a decay
    takes 10 to 1,000 positions to 1/e, evenly on a logarithmic scale, and residues are drawn
    N(0, λ²/S): a gain for constant inputs of variance one.

    Args: channels D; modes S; filters F; device and dtype of the parameters, the filters are
        computed in float32 or wider.

    Attributes: ``log_poles`` λ and ``residues`` R, (F, D, S).
    Shape: taps(L) → (F, D, L).
    Raises: ValueError if a size is below 1.
    """

    def __init__(
        self,
        channels: int,
        modes: int,
        *,
        filters: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        channels, modes, filters = check_sizes(
            "RealModalTaps", channels=channels, modes=modes, filters=filters
        )
        place = placement("RealModalTaps", device, dtype)
        self.log_poles = nn.Parameter(torch.empty(filters, channels, modes, **place))
        self.residues = nn.Parameter(torch.empty(filters, channels, modes, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws exponents and residues anew."""
        if self.log_poles.is_meta:
            return
        low, high = math.log(_SLOWEST), math.log(_FASTEST)
        nn.init.uniform_(self.log_poles, low, high, generator=generator)
        self.log_poles.exp_().neg_()
        draw_normal(self.residues, generator=generator)
        self.residues.mul_(self.log_poles).div_(math.sqrt(self.log_poles.shape[-1]))

    def forward(self, length: int) -> Tensor:
        """The taps of lags 0 … length − 1: (F, D, length)."""
        return self.of_channels(length, slice(None))

    def of_channels(self, length: int, channels: slice) -> Tensor:
        """The taps (F, d, length) of a slice of the channels."""
        length = check_size("RealModalTaps", "length", length, 1)
        with without_autocast(self.log_poles):
            exponent = self._exponent(channels).flatten(0, 1)
            weight = self._weight(channels).flatten(0, 1)
            h = sum_of_exponentials(weight, exponent, length)
        return h.view(self.log_poles.shape[0], -1, length)

    @property
    def modes_sizes(self) -> tuple[int, int]:
        """S modes of a channel, of one number each."""
        return self.log_poles.shape[2], 1

    def modes(self, channels: slice) -> tuple[Tensor, Tensor]:
        """λ and R of a slice of the channels, (F, d, S), in float32 or wider."""
        return self._exponent(channels), 2 * self._weight(channels)

    def recurrence(self) -> tuple[Tensor, Tensor]:
        """What taps[t] = 2 Σ weight · decay^t is made of: decay and weight, (F, D, S), real.

        A decay is rounded to its dtype, so that a mode that lives for T steps is followed to about
        T times the precision.
        """
        with without_autocast(self.log_poles):
            exponent = self._exponent(slice(None))
            decay = exponent.to(torch.promote_types(exponent.dtype, widest(exponent.device))).exp()
            return decay.to(exponent.dtype), self._weight(slice(None))

    def exponentials(self) -> tuple[Tensor, Tensor]:
        """exponent and weight (F, D, S) of taps[t] = 2 Σ weight · e^{t · exponent}, real."""
        return self._exponent(slice(None)), self._weight(slice(None))

    def state_after(self, u: Tensor, part: int) -> Tensor:
        """The x ← decay · x + u of filter ``part`` after the inputs u (B, D, L), L ≥ 1: (B, D, S)
        real.

        In O(B·D·S·L) without a loop over the positions, and in memory that is bounded beside u.
        """
        return self.state_of_channels(u, part, slice(None))

    def state_of_channels(self, u: Tensor, part: int, channels: slice) -> Tensor:
        """`state_after` of a slice of the channels, whose inputs u are."""
        with without_autocast(self.log_poles):
            exponent = self._exponent(channels)[part]
            return exponential_sum(u.to(exponent.dtype), exponent)

    def flops(self, length: int) -> FilterFlops:
        """Operations of the taps for inputs of this length."""
        filters, channels, modes = self.log_poles.shape
        return sum_flops(filters * channels, modes, length, real=True)

    def extra_repr(self) -> str:
        filters, channels, modes = self.log_poles.shape
        return f"channels={channels}, modes={modes}, filters={filters}"

    def _weight(self, channels: slice) -> Tensor:
        """Half the residues, (F, d, S)."""
        return self.residues[:, channels].to(wide(self.residues.dtype)) / 2

    def _exponent(self, channels: slice) -> Tensor:
        return self.log_poles[:, channels].to(wide(self.log_poles.dtype))


def _complex(x: Tensor) -> Tensor:
    """The numbers whose real and imaginary parts are the last dimension."""
    return torch.view_as_complex(x.contiguous())
