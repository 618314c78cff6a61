"""S4D: a diagonal state space on each channel, then a gated linear unit across them.

Sizes: B batch, L length, D width, n numbers in a channel's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.mixers.flops import GELU, SIGMOID, LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear, channels_last
from hyena.mixers.rivals.state_space import OPTIONS, SSMOptions, StateSpace, carried
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import check_sizes, placement

if TYPE_CHECKING:
    from typing_extensions import Unpack


@tensor_state
class S4DState(NamedTuple):
    """What an S4D layer remembers of the tokens so far; see `hyena.mixers.state`."""

    x: Tensor  # (B, D, n/2, 2): the state of each channel, real and imaginary parts


@mixer("s4d", state=S4DState, options=OPTIONS)
class S4D(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(D·L·(log L + n + D)).

    The layer of Gu et al. 2022 (arXiv:2206.11893) and of their code: a diagonal state space with a
    skip on each channel, GELU, and a linear layer to 2D whose second half gates the first:

    .. math:: y = \mathrm{GLU}(\mathrm{out\_proj}(\mathrm{GELU}(\mathrm{SSM}(u))))

    There is no linear layer before the state space. Any length is taken.

    Args:
        width: D.
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
        (width,) = check_sizes("S4D", width=width)
        place = placement("S4D", device, dtype)
        self.width = width
        self.filter = StateSpace(width, **place, **ssm)
        self.state = self.filter.taps.state
        self.out_proj = nn.Linear(width, 2 * width, **place)

    def _flops(self, length: int, batch: int) -> LayerFlops:
        D, positions = self.width, batch * length
        mixed = self.filter.flops(length, batch)
        mixed["pointwise"] += positions * D * (GELU + SIGMOID + 1)
        return rival_flops(positions, before=0, after=2 * D * D, **mixed)

    def extra_repr(self) -> str:
        return f"width={self.width}, state={self.state}"

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, S4DState | None]:
        carry = carried(room)
        y = F.gelu(self.filter(u.transpose(1, 2), segments=segments, carry=carry))
        y = F.glu(channels_last(self.out_proj, y), dim=-1)  # (B, D, L) → (B, L, D)
        return y, S4DState(*carry) if carry else None

    def _step(self, u: Tensor, state: S4DState) -> tuple[Tensor, S4DState]:
        carry = [state.x]
        y = F.gelu(self.filter(u[..., None], carry=carry)[..., 0])
        return F.glu(apply_linear(self.out_proj, y), dim=-1), S4DState(*carry)

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.width, self.state // 2, 2),)
