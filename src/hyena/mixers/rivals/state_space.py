"""A diagonal state space with its skip, as a convolution and as a recurrence.

Sizes: B batch, C channels, L length, n numbers in a channel's state.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from hyena.filters import DiagonalSSM
from hyena.filters.flops import convolution
from hyena.filters.precision import without_autocast
from hyena.ops import Segments, long_conv

OPTIONS = {name: f"ssm.{name}" for name in ("state", "dt_min", "dt_max", "initial")}
"""Of the constructors of mixers with a state space, and what they are in `hyena.ModelConfig`."""


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
        state: int,
        dt_min: float,
        dt_max: float,
        initial: Literal["lin", "inv"],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.taps = DiagonalSSM(
            channels, state=state, dt_min=dt_min, dt_max=dt_max, initial=initial, **place
        )
        self.skip = nn.Parameter(torch.empty(channels, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws the skip anew."""
        nn.init.normal_(self.skip, generator=generator)

    def forward(self, u: Tensor, segments: Segments | None = None) -> Tensor:
        """The convolution, documents apart: (B, C, L) → (B, C, L)."""
        span = u.shape[-1] if segments is None else segments.longest
        return long_conv(u, self.taps(max(span, 1))[0], self.skip, segments=segments)

    def flops(self, length: int, batch: int) -> tuple[float, float, float]:
        """Operations of `forward`: matrix products, transforms and the rest."""
        made = self.taps.flops(length)
        row, filter_fft = convolution(length, length)
        C, spectra = self.skip.shape[0], row - 2 * filter_fft
        transforms = C * (2 * batch + 1) * filter_fft
        return made.products, transforms, made.pointwise + C * (length + batch * spectra)

    def state_after(self, u: Tensor) -> Tensor:
        """The state that the inputs (B, C, L), L ≥ 1, leave behind: (B, C, n/2, 2)."""
        return torch.view_as_real(self.taps.state_after(u)[:, 0])

    def step(self, u: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """One more position: u (B, C) and the state before → y (B, C) and the state after."""
        decay, weight = (part[0] for part in self.taps.recurrence())  # (C, n/2)
        with without_autocast(u):
            after = decay * torch.view_as_complex(x) + u[..., None]
            y = 2 * (weight * after).real.sum(-1) + self.skip.to(x.dtype) * u
            return y.to(u.dtype), torch.view_as_real(after)
