"""S4D: a diagonal state space on each channel, then a gated linear unit across them.

Sizes: B batch, L length, D width, n numbers in a channel's state.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.mixers.flops import GELU, SIGMOID, LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear, channels_last
from hyena.mixers.rivals.state_space import OPTIONS, StateSpace
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import check_sizes


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
        state: int = 64,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        initial: Literal["lin", "inv"] = "lin",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_sizes("S4D", width=width, state=state)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.width, self.state = width, state
        self.filter = StateSpace(
            width, state=state, dt_min=dt_min, dt_max=dt_max, initial=initial, **place
        )
        self.out_proj = nn.Linear(width, 2 * width, **place)

    def _flops(self, length: int, batch: int) -> LayerFlops:
        D, positions = self.width, batch * length
        products, transforms, pointwise = self.filter.flops(length, batch)
        return rival_flops(
            positions,
            before=0,
            after=2 * D * D,
            products=products,
            transforms=transforms,
            pointwise=pointwise + positions * D * (GELU + SIGMOID + 1),
        )

    def extra_repr(self) -> str:
        return f"width={self.width}, state={self.state}"

    def _mix(self, u: Tensor, mask: Tensor | None, segments: Segments | None) -> Tensor:
        y = F.gelu(self.filter(u.transpose(1, 2), segments))
        return F.glu(channels_last(self.out_proj, y), dim=-1)

    def _prefill(self, u: Tensor, mask: Tensor | None, room: Room) -> tuple[Tensor, S4DState]:
        return self._mix(u, mask, None), S4DState(self.filter.state_after(u.transpose(1, 2)))

    def _step(self, u: Tensor, state: S4DState) -> tuple[Tensor, S4DState]:
        y, x = self.filter.step(u, state.x)
        return F.glu(apply_linear(self.out_proj, F.gelu(y)), dim=-1), S4DState(x)

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.width, self.state // 2, 2),)
