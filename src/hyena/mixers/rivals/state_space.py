"""A diagonal state space with its skip, as a convolution and as a recurrence.

Sizes: B batch, C channels, L length, n numbers in a channel's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import torch
from torch import Tensor, nn

from hyena.filters import DiagonalSSM
from hyena.filters.drawing import draw_normal
from hyena.filters.exponentials import decayed, response
from hyena.filters.flops import convolution
from hyena.filters.precision import without_autocast
from hyena.mixers.mixer import Room
from hyena.ops import Segments, long_conv
from hyena.ops.observed import has_hooks

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SSMOptions(TypedDict, total=False):
    """Arguments of `hyena.filters.DiagonalSSM`, with its defaults, that the mixers with a state
    space take as their own."""

    state: int
    dt_min: float
    dt_max: float
    initial: Literal["lin", "inv"]


OPTIONS = {name: f"ssm.{name}" for name in SSMOptions.__annotations__}
"""What these are in `hyena.ModelConfig`."""


def carried(room: Room | None) -> list[Tensor] | None:
    """What a `StateSpace` is called with by a mixer whose state is that alone."""
    if room is None:
        return None
    return [] if room.state is None else list(room.state)


class StateSpace(nn.Module):
    """``y = taps * u + skip · u`` on (B, C, L), with ``taps`` a `hyena.filters.DiagonalSSM`.

    The state space is computed in float32 or wider, and y has the dtype of u. A state is real, with
    the two parts of its complex numbers in the last dimension: (B, C, n/2, 2).

    Args: channels C; the others as of `hyena.filters.DiagonalSSM`.
    Attributes: ``skip`` (C,), drawn N(0, 1).
    """

    def __init__(
        self,
        channels: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **ssm: Unpack[SSMOptions],
    ) -> None:
        super().__init__()
        self.taps = DiagonalSSM(channels, device=device, dtype=dtype, **ssm)
        self.skip = nn.Parameter(torch.empty(channels, device=device, dtype=dtype))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws the skip anew."""
        draw_normal(self.skip, generator=generator)

    def forward(
        self, u: Tensor, segments: Segments | None = None, carry: list[Tensor] | None = None
    ) -> Tensor:
        """The convolution, documents apart: (B, C, L) → (B, C, L).

        With a ``carry``, the state after u is left in it. If it already holds a state, (B, C, n/2,
        2), u comes after that. Both are calls, so that hooks count in generation too.

        Raises: ValueError with a ``carry`` if ``taps`` has hooks or a forward of its own: a
            recurrence reads its parameters alone.
        """
        if carry is not None and (has_hooks(self.taps) or not isinstance(self.taps, DiagonalSSM)):
            raise ValueError(
                "StateSpace: taps has hooks or a forward of its own, which a state cannot follow; "
                "remove them to generate, or call forward on the whole sequence"
            )
        if carry and u.shape[-1] == 1:
            y, carry[0] = self._step(u[..., 0], carry[0])
            return y[..., None]
        span = u.shape[-1] if segments is None else segments.longest
        y = long_conv(u, self.taps(max(span, 1))[0], self.skip, segments=segments)
        if carry is None:
            return y
        left = self.taps.state_after(u, 0)
        if not carry:
            carry.append(torch.view_as_real(left.contiguous()))
            return y
        decay, weight = (part[0] for part in self.taps.recurrence())
        with without_autocast(u):
            x, L = torch.view_as_complex(carry[0]), u.shape[-1]
            carry[0] = torch.view_as_real(left + decayed(x, decay, L))
            return y + response(x, decay, weight, L).to(y.dtype)

    def flops(self, length: int, batch: int) -> dict[str, float]:
        """Operations of `forward`: matrix products, transforms and the rest."""
        made = self.taps.flops(length)
        row, filter_fft = convolution(length, length)
        C, spectra = self.skip.shape[0], row - 2 * filter_fft
        return {
            "products": made.products,
            "transforms": C * (2 * batch + 1) * filter_fft,
            "pointwise": made.pointwise + C * (length + batch * spectra),
        }

    def _step(self, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, C) and the state before → y (B, C) and the state after."""
        decay, weight = (part[0] for part in self.taps.recurrence())  # (C, n/2)
        with without_autocast(u):
            after = decay * torch.view_as_complex(x) + u[..., None]
            y = 2 * (weight * after).real.sum(-1) + self.skip.to(x.dtype) * u
            return y.to(u.dtype), torch.view_as_real(after)
