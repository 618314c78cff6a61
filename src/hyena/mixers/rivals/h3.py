"""H3: two state spaces in place of the memory and the look-up of linear attention.

Sizes: B batch, L length, D width, E head_dim, H = D/E heads, n numbers in a state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.drawing import draw_normal
from hyena.filters.flops import convolution
from hyena.filters.plain import is_plain
from hyena.filters.precision import wide, without_autocast
from hyena.mixers.checks import check_heads
from hyena.mixers.flops import LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer, zero_at_padding
from hyena.mixers.projections import apply_linear, channels_first, channels_last
from hyena.mixers.rivals.state_space import OPTIONS, SSMOptions, StateSpace
from hyena.mixers.state import tensor_state
from hyena.ops import Segments, long_conv
from hyena.ops.arguments import check_sizes, placement

if TYPE_CHECKING:
    from typing_extensions import Unpack


@tensor_state
class H3State(NamedTuple):
    """What an H3 layer remembers of the tokens so far; see `hyena.mixers.state`."""

    keys: Tensor  # (B, D, n − 1): the shift's last inputs
    x: Tensor  # (B, E·E, H, n/2, 2): the diagonal state spaces, real and imaginary parts


@mixer("h3", state=H3State, options=OPTIONS)
class H3(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(D·L·(E·(log L + n) + D)).

    Fu et al. 2022 (arXiv:2212.14052), Algorithm 1:

    .. math::

        q, k, v = \mathrm{in\_proj}(u), \qquad
        y = \mathrm{out\_proj}(q \odot \mathrm{SSM_{diag}}(\mathrm{SSM_{shift}}(k) \odot v))

    The shift's state holds the last n inputs and its output weighs them, so that it is a causal
    convolution with n taps, which are trained. Both state spaces have a skip. With heads of E > 1
    channels, k ⊙ v is the E × E outer product of each head, whose entries share a state space, and
    q takes its sum over k's channel. Any length is taken.

    Args:
        width: D, a multiple of ``head_dim``.
        head_dim: E.
        state: n, of the diagonal state spaces and taps of the shift.
        dt_min, dt_max, initial: of the diagonal state spaces, see `hyena.filters.DiagonalSSM`.
        device, dtype: of the parameters; the state spaces are computed in float32 or wider.

    Raises: ValueError on settings that cannot be.
    """

    def __init__(
        self,
        width: int,
        *,
        head_dim: int = 1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **ssm: Unpack[SSMOptions],
    ) -> None:
        super().__init__()
        check_sizes("H3", head_dim=head_dim)
        width, head_dim = check_heads("H3", width, head_dim)
        place = placement("H3", device, dtype)
        self.width, self.head_dim, self.heads = width, head_dim, width // head_dim
        self.in_proj = nn.Linear(width, 3 * width, **place)
        self.filter = StateSpace(self.heads, **place, **ssm)
        self.state = self.filter.taps.state
        self.shift = Shift(width, self.state, **place)
        self.out_proj = nn.Linear(width, width, **place)

    def _flops(self, length: int, batch: int) -> LayerFlops:
        D, E, positions = self.width, self.head_dim, batch * length
        taps = min(self.state, length)
        mixed = self.filter.flops(length, batch * E * E)
        row, filter_fft = convolution(taps, length)  # of the shift
        spectra = row - 2 * filter_fft
        outer = positions * D * (E + 2 * E - 1)  # k ⊙ v, and what q takes of it
        mixed["transforms"] += D * (2 * batch + 1) * filter_fft
        mixed["pointwise"] += D * (batch * spectra + taps) + outer
        return rival_flops(positions, before=3 * D * D, after=D * D, **mixed)

    def extra_repr(self) -> str:
        return f"width={self.width}, head_dim={self.head_dim}, state={self.state}"

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, H3State | None]:
        # The projection's bias fills padding. Shifted keys there are not zero, but values are.
        z = zero_at_padding(channels_first(self.in_proj, u), mask, 1)
        q, k, v = z.split(self.width, dim=1)
        before = None if room is None else room.state
        if before is not None:
            k = torch.cat([before.keys.to(k.dtype), k], dim=-1)
        shifted = self.shift(k, segments=segments)[..., k.shape[-1] - u.shape[1] :]
        kv = self._products(shifted, v)
        if segments is not None and self.head_dim > 1:  # a row for each pair of a head's channels
            segments = Segments(segments.ids.repeat_interleave(self.head_dim**2, dim=0))
        carry: list[Tensor] | None = None if room is None else []
        if carry is not None and before is not None:
            carry.append(before.x.flatten(0, 1))
        y = self._read(q, self.filter(kv, segments=segments, carry=carry))
        y = channels_last(self.out_proj, y)
        if carry is None:
            return y, None
        keep = self.state - 1
        keys = F.pad(k, (max(keep - k.shape[-1], 0), 0))
        return y, self._after(keys[..., keys.shape[-1] - keep :].contiguous(), carry)

    def _step(self, u: Tensor, state: H3State) -> tuple[Tensor, H3State]:
        q, k, v = apply_linear(self.in_proj, u).split(self.width, dim=1)
        window = torch.cat([state.keys, k[..., None]], dim=-1)  # (B, D, n)
        kv = self._products(self.shift.step(window)[..., None], v[..., None])
        carry = [state.x.flatten(0, 1)]
        y = self._read(q[..., None], self.filter(kv, carry=carry))[..., 0]
        return apply_linear(self.out_proj, y), self._after(window[..., 1:], carry)

    def _after(self, keys: Tensor, carry: list[Tensor]) -> H3State:
        """The state of these last keys and what the diagonal state spaces left behind."""
        return H3State(keys, carry[0].unflatten(0, (keys.shape[0], self.head_dim**2)))

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        n = self.state
        return (self.width, n - 1), (self.head_dim**2, self.heads, n // 2, 2)

    def _products(self, k: Tensor, v: Tensor) -> Tensor:
        """k_i · v_j for each pair of channels of a head: (B, D, L) twice → (B·E·E, H, L)."""
        E = self.head_dim
        if E == 1:
            return k * v
        k, v = (x.unflatten(1, (self.heads, E)).transpose(1, 2) for x in (k, v))  # (B, E, H, L)
        return (k[:, :, None] * v[:, None]).flatten(0, 2)

    def _read(self, q: Tensor, y: Tensor) -> Tensor:
        """Σ_i q_i · y_ij: (B, D, L) and (B·E·E, H, L) → (B, D, L)."""
        E = self.head_dim
        if E == 1:
            return q * y
        y = y.unflatten(0, (q.shape[0], E, E))
        q = q.unflatten(1, (self.heads, E)).transpose(1, 2)
        return (q[:, :, None] * y).sum(1).transpose(1, 2).flatten(1, 2)


class Shift(nn.Module):
    """A shift state space on (B, D, L): n taps and a skip for each channel.

    ``weight`` (D, n), tap j of lag j, drawn as `torch.nn.Conv1d` draws them, and ``skip`` (D,),
    drawn N(0, 1): as in the code of Fu et al. 2022.
    """

    def __init__(self, channels: int, taps: int, **place: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, taps, **place))
        self.skip = nn.Parameter(torch.empty(channels, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws taps and skip anew."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound, generator=generator)
        draw_normal(self.skip, generator=generator)

    def forward(self, k: Tensor, segments: Segments | None = None) -> Tensor:
        """The convolution, documents apart: (B, D, L) → (B, D, L)."""
        return long_conv(k, self.weight, self.skip, segments=segments)

    def step(self, window: Tensor) -> Tensor:
        """The newest output of the last n inputs, oldest first: (B, D, n) → (B, D)."""
        if not is_plain(self, Shift):  # what else a call does counts here too
            y: Tensor = self(window)
            return y[..., -1]
        with without_autocast(window):
            dtype = wide(self.weight.dtype)
            total = (window * self.weight.to(dtype).flip(1)).sum(-1)
            return (total + self.skip.to(dtype) * window[..., -1]).to(window.dtype)
