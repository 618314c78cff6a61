"""Linear attention: a kernel of positive features in place of the softmax, so that sums suffice.

Sizes: B batch, L length, D width, H heads, E head_dim; C positions a chunk, n chunks.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.precision import wide, without_autocast
from hyena.mixers.checks import check_heads
from hyena.mixers.flops import LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear
from hyena.mixers.rivals.scans.chunks import chunked
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import placement

EPSILON = 1e-6  # added to denominators, as in the authors' code: features may vanish by rounding
SHORTEST, LONGEST = 16, 128  # positions a chunk


@tensor_state
class LinearAttentionState(NamedTuple):
    """What linear attention remembers of the tokens so far; see `hyena.mixers.state`."""

    sums: Tensor  # (B, H, E, E+1): Σ φ(k) vᵀ, and in the last column Σ φ(k)


@mixer("linear-attention", state=LinearAttentionState, options={"head_dim": "head_dim"})
class LinearAttention(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(L·D·(D + E)).

    Katharopoulos et al. 2020 (arXiv:2006.16236), causal, with their features φ(x) = elu(x) + 1.
    Queries q, keys k and values v are projections of u; in each head

    .. math:: y_t = \frac{\sum_{s \le t} \varphi(q_t)^\top \varphi(k_s)\, v_s}
                         {\sum_{s \le t} \varphi(q_t)^\top \varphi(k_s)}

    followed by a projection. The sums over the past are a matrix Σ φ(k) vᵀ and a vector Σ φ(k) a
    head. Inside chunks of about E positions the products φ(q)ᵀφ(k) are formed; from chunk to chunk
    the sums are carried.

    Args:
        width: D, a multiple of ``head_dim``.
        head_dim: E. The default is 64, or ``width`` if that is smaller.
        device, dtype: of the parameters.

    Raises: ValueError if the sizes do not divide.
    """

    takes_gaps = True

    def __init__(
        self,
        width: int,
        *,
        head_dim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width, head_dim = check_heads("LinearAttention", width, head_dim)
        self.width, self.head_dim, self.heads = width, head_dim, width // head_dim
        place = placement("LinearAttention", device, dtype)
        self.in_proj = nn.Linear(width, 3 * width, **place)
        self.out_proj = nn.Linear(width, width, **place)

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, LinearAttentionState | None]:
        z = self.in_proj(u)
        q, k, v = self._heads(z, mask)
        ids = None if segments is None else segments.ids
        before = None if room is None or room.state is None else room.state.sums
        with without_autocast(u):  # sums over the past are not for 16 bits
            y, sums = chunked(q, k, v, ids, self._chunk, before=before)
        y = self.out_proj(_divide(y).transpose(1, 2).flatten(2).to(z.dtype))
        return y, None if room is None else LinearAttentionState(sums[:, :, -1].clone())

    def _step(self, u: Tensor, state: LinearAttentionState) -> tuple[Tensor, LinearAttentionState]:
        z = apply_linear(self.in_proj, u)
        q, k, v = self._heads(z[:, None], None)  # (B, H, 1, ·)
        sums = state.sums + k.transpose(-1, -2) * v
        y = _divide((q.transpose(-1, -2) * sums).sum(-2))  # a product that no autocast rounds
        return apply_linear(self.out_proj, y.flatten(1).to(z.dtype)), LinearAttentionState(sums)

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.heads, self.head_dim, self.head_dim + 1),)

    def _flops(self, length: int, batch: int) -> LayerFlops:
        D, H, E, C = self.width, self.heads, self.head_dim, self._chunk
        chunks, positions = batch * H * -(-length // C), batch * length
        sums = E * (E + 1)  # kept from chunk to chunk
        return rival_flops(
            positions,
            before=3 * D * D,
            after=D * D,
            # queries with keys; scores with values; keys with values; queries with the sums
            products=chunks * 2 * (C * C * E + C * C * (E + 1) + 2 * C * sums),
            # features, a maximum, an exponential and two more; the division; the sums' scan
            pointwise=positions * (2 * 4 * D + D + H) + chunks * (4 * sums + C * (E + 1)),
        )

    def extra_repr(self) -> str:
        return f"width={self.width}, heads={self.heads}"

    @property
    def _chunk(self) -> int:
        """C."""
        return min(max(self.head_dim, SHORTEST), LONGEST)

    def _heads(self, z: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """φ(q), φ(k) and (v, 1): (B, H, L, E), (B, H, L, E), (B, H, L, E+1), float32 or wider."""
        z = z.to(wide(z.dtype))
        q, k, v = (
            x.unflatten(-1, (self.heads, self.head_dim)).transpose(1, 2) for x in z.chunk(3, dim=-1)
        )
        k = features(k)
        if mask is not None:
            k = k.masked_fill(~mask[:, None, :, None], 0)
        return features(q), k, F.pad(v, (0, 1), value=1.0)


def features(x: Tensor) -> Tensor:
    """φ(x) = elu(x) + 1, which is e^x for negative x, without its rounding to zero below −17."""
    return x.clamp(max=0).exp() + x.relu()


def _divide(y: Tensor) -> Tensor:
    """The first E columns by the last."""
    return y[..., :-1] / (y[..., -1:] + EPSILON)
