"""S4D: a diagonal state space on each channel, then a gated linear unit across them.

Sizes: B batch, L length, D width, n numbers in a channel's state.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.mixers.packing import (
    check_input,
    check_left_padding,
    check_mask,
    check_state,
    check_token,
    segments_of,
)
from hyena.mixers.projections import channels_last, step_of
from hyena.mixers.state import tensor_state
from hyena.mixers.state_space import StateSpace
from hyena.ops import Segments


@tensor_state
class S4DState(NamedTuple):
    """What an S4D layer remembers of the tokens so far; see `hyena.mixers.state`."""

    x: Tensor  # (B, D, n/2, 2): the state of each channel, real and imaginary parts


class S4D(nn.Module):
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
        if width < 1:
            raise ValueError(f"S4D: expected width ≥ 1, got {width}")
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.width, self.state = width, state
        self.filter = StateSpace(
            width, state=state, dt_min=dt_min, dt_max=dt_max, initial=initial, **place
        )
        self.out_proj = nn.Linear(width, 2 * width, **place)

    def forward(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        document_ids: Tensor | Segments | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Mixes along the sequence; arguments, result and errors as `HyenaOperator.forward`."""
        return self._mix(u, mask, document_ids, cu_seqlens)[0]

    def prefill(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        future: int | None = None,
        keep_inputs: bool = False,
    ) -> tuple[Tensor, S4DState]:
        """``forward``, and the state that `step` goes on from; padding on the left only.

        The state has one size: ``future`` and ``keep_inputs`` make no difference.

        Raises: ValueError if a row of the mask has padding after a real token, or no real token.
        """
        check_left_padding("S4D", mask)
        y, u = self._mix(u, mask, None, None)
        return y, S4DState(self.filter.state_after(u))

    def step(self, u: Tensor, state: S4DState) -> tuple[Tensor, S4DState]:
        """One more token: u (B, D) → y (B, D) and the next state, in O(D·(D + n))."""
        fits = isinstance(state, S4DState) and state.x.shape[1:] == (self.width, self.state // 2, 2)
        check_state("S4D", state, fits)
        check_token("S4D", u, state.x.shape[0], self.width, state.x.dtype)
        y, x = self.filter.step(u, state.x)
        return F.glu(step_of(self.out_proj, F.gelu(y)), dim=-1), S4DState(x)

    def state_size(self, length: int, future: int | None = None) -> int:
        """Numbers that `S4DState` holds for one sequence after ``length`` tokens: always D·n."""
        return self.width * self.state

    def extra_repr(self) -> str:
        return f"width={self.width}, state={self.state}"

    def _mix(
        self,
        u: Tensor,
        mask: Tensor | None,
        document_ids: Tensor | Segments | None,
        cu_seqlens: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """y (B, L, D), and what the state spaces read (B, D, L)."""
        check_input("S4D", u, self.width)
        B, L, _ = u.shape
        check_mask("S4D", mask, B, L)
        segments = segments_of("S4D", document_ids, cu_seqlens, B, L)
        if mask is not None:  # whatever stands at padding, be it NaN, reaches no state
            u = u.masked_fill(~mask[..., None], 0)
        u = u.transpose(1, 2)
        y = F.gelu(self.filter(u, segments))
        return F.glu(channels_last(self.out_proj, y), dim=-1), u
