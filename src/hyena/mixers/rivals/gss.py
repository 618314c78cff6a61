"""GSS: a diagonal state space on few channels between two gated wide ones.

Sizes: B batch, L length, D width, H = D/4 channels of the state space, n numbers in its state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.mixers.flops import GELU, NORM, LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer, zero_at_padding
from hyena.mixers.projections import apply_linear, channels_last
from hyena.mixers.rivals.state_space import OPTIONS, SSMOptions, StateSpace, carried
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import check_sizes, placement

_REDUCTION = 4  # the state space has so many times fewer channels than the model
_EXPANSION = 4  # and what is gated has so many times more

if TYPE_CHECKING:
    from typing_extensions import Unpack


@tensor_state
class GSSState(NamedTuple):
    """What a GSS layer remembers of the tokens so far; see `hyena.mixers.state`."""

    x: Tensor  # (B, H, n/2, 2): the state of each channel, real and imaginary parts


@mixer("gss", state=GSSState, options=OPTIONS)
class GSS(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(D·L·(log L + n + D)).

    Mehta et al. 2022 (arXiv:2206.13947), section 3.2: gating lets a state space on a quarter of the
    channels do, of which a linear layer makes 4·D again:

    .. math::

        v = \mathrm{GELU}(\mathrm{gate\_proj}(u)),\quad
        x = \mathrm{SSM}(\mathrm{norm}(\mathrm{GELU}(\mathrm{in\_proj}(u)))),\quad
        y = \mathrm{out\_proj}(\mathrm{up\_proj}(x) \cdot v)

    The paper's layer is a whole block, of which this is all but the norm before and the residual.
    Its state spaces share poles drawn at random and have a fixed step; here they are those of
    `hyena.filters.DiagonalSSM`, with poles of their own. Any length is taken.

    Args:
        width: D, a multiple of 4.
        state, dt_min, dt_max, initial: of the state spaces, see `hyena.filters.DiagonalSSM`.
        device, dtype: of the parameters; the state spaces are computed in float32 or wider.

    Raises: ValueError on settings that cannot be.
    """

    def __init__(
        self,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **ssm: Unpack[SSMOptions],
    ) -> None:
        super().__init__()
        (width,) = check_sizes("GSS", width=width)
        if width % _REDUCTION:
            raise ValueError(f"GSS: expected a width that {_REDUCTION} divides, got {width}")
        place = placement("GSS", device, dtype)
        self.width, self.channels = width, width // _REDUCTION
        self.in_proj = nn.Linear(width, self.channels, **place)
        self.gate_proj = nn.Linear(width, _EXPANSION * width, **place)
        self.norm = nn.LayerNorm(self.channels, **place)
        self.filter = StateSpace(self.channels, **place, **ssm)
        self.state = self.filter.taps.state
        self.up_proj = nn.Linear(self.channels, _EXPANSION * width, **place)
        self.out_proj = nn.Linear(_EXPANSION * width, width, **place)

    def _flops(self, length: int, batch: int) -> LayerFlops:
        D, H, wide, positions = self.width, self.channels, _EXPANSION * self.width, batch * length
        mixed = self.filter.flops(length, batch)
        mixed["pointwise"] += positions * ((GELU + NORM) * H + (GELU + 1) * wide)
        before, after = D * H + D * wide, H * wide + wide * D
        return rival_flops(positions, before=before, after=after, **mixed)

    def extra_repr(self) -> str:
        return f"width={self.width}, channels={self.channels}, state={self.state}"

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, GSSState | None]:
        carry = carried(room)
        read = zero_at_padding(self._reduced(u), mask)  # biases fill it
        x = self.filter(read.transpose(1, 2), segments=segments, carry=carry)  # (B, H, L)
        y = self.out_proj(channels_last(self.up_proj, x) * F.gelu(self.gate_proj(u)))
        return y, GSSState(*carry) if carry else None

    def _step(self, u: Tensor, state: GSSState) -> tuple[Tensor, GSSState]:
        carry = [state.x]
        x = self.filter(self._reduced(u)[..., None], carry=carry)[..., 0]
        gated = apply_linear(self.up_proj, x) * F.gelu(apply_linear(self.gate_proj, u))
        return apply_linear(self.out_proj, gated), GSSState(*carry)

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.channels, self.state // 2, 2),)

    def _reduced(self, u: Tensor) -> Tensor:
        """What the state spaces read: (…, D) → (…, H)."""
        return self.norm(F.gelu(apply_linear(self.in_proj, u)))
