"""RWKV-4's time mixing: weighted means that decay with the distance, behind a gate.

Sizes: B batch, L length, D width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hyena.filters.precision import wide
from hyena.mixers.flops import RUNNING_MAX, SIGMOID, SUM_OF_TWO, LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear
from hyena.mixers.rivals.scans.scan import EMPTY, linear_scan, previous, running_max, starts_of
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import check_sizes, placement

DEPTH = 0.5  # how far up in the model the layer stands for the initial values, from zero to one


@tensor_state
class RWKVState(NamedTuple):
    """What RWKV remembers of the tokens so far; see `hyena.mixers.state`."""

    input: Tensor  # (B, D): the last token's
    numerator: Tensor  # (B, D): Σ e^{k − age · w − exponent} v
    denominator: Tensor  # (B, D): the same without v
    exponent: Tensor  # (B, D): the largest of these k − age · w


@mixer("rwkv", state=RWKVState)
class RWKV(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(L·D²).

    The time mixing of RWKV-4, Peng et al. 2023 (arXiv:2305.13048), section 3. Each of receptance
    r, key k and value v is a projection of a mixture of the input and the one before it,
    μ u_t + (1 − μ) u_{t−1} with μ per channel; then, in each channel, a softmax over the past that
    decays by w a step and has a bonus b for the present token:

    .. math:: y_t = \sigma(r_t)\, \frac{\sum_{s<t} e^{k_s - (t-1-s)\,w} v_s + e^{k_t + b} v_t}
                                       {\sum_{s<t} e^{k_s - (t-1-s)\,w} + e^{k_t + b}}

    followed by a projection. No layer has a bias. Trained is log w, so that w stays positive.

    The authors' initial values of μ, w and b depend on how far up in the model the layer stands.
    A mixer does not know, so these are their formulas for a layer half way up: channels from slow
    (w = e^{−5}) to fast (w = e³), the first ones mixed from the input before. Their channel
    mixing, which stands where a model has its MLP, is no part of this.

    Args:
        width: D.
        device, dtype: of the parameters.

    Raises: ValueError if the width is below 1.
    """

    def __init__(
        self,
        width: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        (width,) = check_sizes("RWKV", width=width)
        self.width = width
        place = placement("RWKV", device, dtype)
        self.receptance = nn.Linear(width, width, bias=False, **place)
        self.key = nn.Linear(width, width, bias=False, **place)
        self.value = nn.Linear(width, width, bias=False, **place)
        self.out_proj = nn.Linear(width, width, bias=False, **place)
        # Vectors each, since weight decay is for matrices.
        self.mix_receptance = nn.Parameter(torch.empty(width, **place))
        self.mix_key = nn.Parameter(torch.empty(width, **place))
        self.mix_value = nn.Parameter(torch.empty(width, **place))
        self.log_decay = nn.Parameter(torch.empty(width, **place))
        self.bonus = nn.Parameter(torch.empty(width, **place))
        self._set_initial()

    def _flops(self, length: int, batch: int) -> LayerFlops:
        # kept: 3; weight and its product with v: 3; with the bonus: 1; the peak and what is scaled
        # by it: 5; the two sums and their division: 6
        mean = RUNNING_MAX + 3 + 3 + SUM_OF_TWO + 1 + 5 + 6
        mixed = 7  # of two tokens, thrice: a difference, three times a product and a sum
        D, positions = self.width, batch * length
        pointwise = positions * D * (mixed + mean + SIGMOID + 1)
        return rival_flops(positions, before=3 * D * D, after=D * D, pointwise=pointwise)

    def extra_repr(self) -> str:
        return f"width={self.width}"

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, RWKVState | None]:
        # A real token after padding has zeros before it, like any first one.
        starts = starts_of(segments)
        before = None if room is None else room.state
        r, k, v, decay, bonus = self._project(
            u, previous(u, starts, 0.0 if before is None else before.input.to(u.dtype))
        )
        if mask is not None:
            k = k.masked_fill(~mask[..., None], EMPTY)
        y, sums, exponents = wkv(k, v, decay, bonus, starts, before)
        y = self._gate(r, y)
        if room is None:
            return y, None
        last = (u[:, -1], *sums[:, :, -1], exponents[:, -1])
        return y, RWKVState(*(x.clone() for x in last))

    def _step(self, u: Tensor, state: RWKVState) -> tuple[Tensor, RWKVState]:
        r, k, v, decay, bonus = self._project(u, state.input)
        y, *sums = wkv_step(k, v, decay, bonus, *state[1:])
        return self._gate(r, y), RWKVState(u, *sums)

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return ((self.width,),) * 4

    def _project(self, u: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """r; and in float32 or wider k, v, decay and bonus."""
        change = u - before
        r = apply_linear(self.receptance, torch.addcmul(before, self.mix_receptance, change))
        k = apply_linear(self.key, torch.addcmul(before, self.mix_key, change))
        v = apply_linear(self.value, torch.addcmul(before, self.mix_value, change))
        dtype = wide(k.dtype)
        return r, k.to(dtype), v.to(dtype), self.log_decay.to(dtype).exp(), self.bonus.to(dtype)

    def _gate(self, r: Tensor, y: Tensor) -> Tensor:
        return apply_linear(self.out_proj, r.sigmoid() * y.to(r.dtype))

    @torch.no_grad()
    def _set_initial(self) -> None:
        """The authors' values, which are no random ones."""
        channel = torch.arange(self.width, dtype=torch.float64)
        share = (channel / self.width) ** (1 - DEPTH)
        self.mix_receptance.copy_(share**0.5)
        self.mix_key.copy_(share)
        self.mix_value.copy_(share + 0.3 * DEPTH)
        rank = channel / max(self.width - 1, 1)  # from zero to one
        self.log_decay.copy_(-5 + 8 * rank ** (0.7 + 1.3 * DEPTH))
        self.bonus.copy_(math.log(0.3) + 0.5 * ((channel + 1) % 3 - 1))


def wkv(
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    bonus: Tensor,
    starts: Tensor | None = None,
    state: RWKVState | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""The means of all positions at once.

    .. math:: y_t = \frac{\sum_{s<t} e^{k_s - (t-1-s)\,w} v_s + e^{k_t + b} v_t}
                         {\sum_{s<t} e^{k_s - (t-1-s)\,w} + e^{k_t + b}}

    with the decay w and the bonus b. Peng et al. 2023 (arXiv:2305.13048), section 3. As its authors
    do, sums are kept with their largest exponent taken out, so that nothing overflows and no
    denominator vanishes. Here these exponents are found first, for all positions; with them, the
    sums are linear recurrences with coefficients between zero and one.

    Args:
        k, v: (B, L, D), float32 or float64; a key of `scan.EMPTY` has no weight.
        decay, bonus: (D,) of the same dtype; decay at least zero.
        starts: (B, L, 1) bool, where documents begin; None if only rows begin.
        state: after the positions before these, of which there are none if None.

    Returns: y (B, L, D); the two sums after each position, those over s ≤ t without a bonus, scaled
        by e^{−exponent} (2, B, L, D); and the exponents (B, L, D), without gradient.
    """
    past, exponent = (None, EMPTY) if state is None else (torch.stack(state[1:3]), state.exponent)
    top = running_max(k, starts, decay, None if state is None else state.exponent)
    before = previous(top, starts, exponent)
    # The difference of exponents first: with slow decays it is nearly exact, a sum would not be.
    kept = ((before - top) - decay).exp()
    weight = (k - top).exp()
    sums = linear_scan(torch.stack([weight * v, weight]), kept, past)
    numerator, denominator = previous(sums, None, 0.0 if past is None else past)
    current = k + bonus
    peak = torch.maximum(before, current.detach())
    old, new = (before - peak).exp(), (current - peak).exp()  # old is zero where documents begin
    y = (old * numerator + new * v) / (old * denominator + new)
    return y, sums, top


def wkv_step(
    k: Tensor,
    v: Tensor,
    decay: Tensor,
    bonus: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    exponent: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One position, k and v (B, D): the mean y (B, D), and the sums and exponent after it."""
    current = k + bonus
    peak = torch.maximum(exponent, current)
    old, new = (exponent - peak).exp(), (current - peak).exp()
    y = (old * numerator + new * v) / (old * denominator + new)
    top = torch.maximum(exponent - decay, k)
    kept, weight = (exponent - decay - top).exp(), (k - top).exp()
    return y, kept * numerator + weight * v, kept * denominator + weight, top
