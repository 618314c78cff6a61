"""AFT-conv: a softmax over the past for each channel alone, with learned weights near by.

Sizes: B batch, L length, D width, K taps.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.drawing import draw_normal
from hyena.filters.precision import wide
from hyena.mixers.flops import NORM, RUNNING_MAX, SIGMOID, SUM_OF_TWO, LayerFlops, rival_flops
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear
from hyena.mixers.rivals.scans.scan import EMPTY, linear_scan, previous, running_max, starts_of
from hyena.mixers.rivals.scans.windowed_sum import windowed_sum
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import check_sizes, placement


@tensor_state
class AFTConvState(NamedTuple):
    """What AFT-conv remembers of the tokens so far; see `hyena.mixers.state`."""

    keys: Tensor  # (B, K−1, D): of the last tokens, oldest first; `scan.EMPTY` where there are none
    values: Tensor  # (B, K−1, D)
    numerator: Tensor  # (B, D): Σ e^{k − exponent} v of the tokens before these
    denominator: Tensor  # (B, D): Σ e^{k − exponent}
    exponent: Tensor  # (B, D): the largest of their keys


@mixer("aft-conv", state=AFTConvState, options={"taps": "local_width"})
class AFTConv(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(L·D·(D + K)).

    The convolutional Attention Free Transformer of Zhai et al. 2021 (arXiv:2105.14103), made
    causal. Queries q, keys k and values v are projections of u; in each channel

    .. math:: y_t = \sigma(q_t)\, \frac{\sum_{s \le t} e^{k_s + w_{t-s}} v_s}
                                       {\sum_{s \le t} e^{k_s + w_{t-s}}}

    followed by a projection. The bias w is zero for lags of K and more. As in the paper it is a
    direction of mean 0 and variance 1, times a gain plus an offset which both start at zero, so
    that the layer begins as a softmax over the whole past. The paper shares biases within heads
    and finds more heads better: here every channel has its own.

    The exponentials are scaled by the largest key so far, and the two sums are formed of positive
    terms only (not as a correction to the unbiased sum, which may cancel), so that the result is
    precise for keys of any size.

    Args:
        width: D.
        taps: K.
        device, dtype: of the parameters.

    Raises: ValueError if a size is below 1.
    """

    def __init__(
        self,
        width: int,
        *,
        taps: int = 32,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        width, taps = check_sizes("AFTConv", width=width, taps=taps)
        place = placement("AFTConv", device, dtype)
        self.width, self.taps = width, taps
        self.in_proj = nn.Linear(width, 3 * width, **place)
        self.out_proj = nn.Linear(width, width, **place)
        self.direction = nn.Parameter(torch.empty(width, taps, **place))
        self.gain = nn.Parameter(torch.zeros(width, **place))
        self.offset = nn.Parameter(torch.zeros(width, **place))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws the direction of the biases, and sets gain and offset to zero."""
        draw_normal(self.direction, generator=generator)
        nn.init.zeros_(self.gain)
        nn.init.zeros_(self.offset)

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, AFTConvState | None]:
        q, k, v = self._project(u, mask)
        if room is not None and room.state is not None:
            k, v = _after(room.state, k, v)
        L = k.shape[1]
        y, totals, top = self._average(k, v, starts_of(segments))
        y = self._gate(q, y[:, L - u.shape[1] :])
        if room is None:
            return y, None
        near = min(self.taps - 1, L)  # tokens that stay in the window of the next one
        missing = (0, 0, self.taps - 1 - near, 0)
        if near < L:
            before = totals[:, :, L - 1 - near].clone()
            exponent = top[:, L - 1 - near].clone()
        else:
            before, exponent = torch.zeros_like(totals[:, :, 0]), torch.full_like(top[:, 0], EMPTY)
        keys = F.pad(k[:, L - near :], missing, value=EMPTY)
        values = F.pad(v[:, L - near :], missing)
        return y, AFTConvState(keys, values, before[0], before[1], exponent)

    def _step(self, u: Tensor, state: AFTConvState) -> tuple[Tensor, AFTConvState]:
        q, k, v = self._project(u, None)
        keys = torch.cat([state.keys, k[:, None]], dim=1)
        values = torch.cat([state.values, v[:, None]], dim=1)
        biased = keys + self._bias(k.dtype).flip(0)  # the oldest has the largest lag
        numerator, denominator, exponent = state[2:]
        peak = torch.maximum(biased.amax(1), exponent)
        near, far = (biased - peak[:, None]).exp(), (exponent - peak).exp()
        y = (far * numerator + (near * values).sum(1)) / (far * denominator + near.sum(1))
        # The oldest token leaves the window.
        top = torch.maximum(exponent, keys[:, 0])
        kept, weight = (exponent - top).exp(), (keys[:, 0] - top).exp()
        state = AFTConvState(
            keys[:, 1:],
            values[:, 1:],
            kept * numerator + weight * values[:, 0],
            kept * denominator + weight,
            top,
        )
        return self._gate(q, y), state

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        near, sums = (self.taps - 1, self.width), (self.width,)
        return near, near, sums, sums, sums

    def _flops(self, length: int, batch: int) -> LayerFlops:
        D, K, positions = self.width, self.taps, batch * length
        # kept: 2; weight and its product with v: 3; a product and a term for each tap and sum;
        # division
        mean = RUNNING_MAX + 2 + 3 + SUM_OF_TWO + 2 * 3 * K + 1
        pointwise = positions * D * (mean + SIGMOID + 1) + D * K * (NORM + 1)
        return rival_flops(positions, before=3 * D * D, after=D * D, pointwise=pointwise)

    def extra_repr(self) -> str:
        return f"width={self.width}, taps={self.taps}"

    def _project(self, u: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """q, and in float32 or wider k and v, of u (B, L, D) or (B, D). Padding has a key of no
        weight."""
        q, k, v = apply_linear(self.in_proj, u).chunk(3, dim=-1)
        k, v = k.to(wide(k.dtype)), v.to(wide(v.dtype))
        return q, k if mask is None else k.masked_fill(~mask[..., None], EMPTY), v

    def _average(
        self, k: Tensor, v: Tensor, starts: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The weighted means (B, L, D), the unbiased running sums (2, B, L, D), the largest keys.

        The sums are those of e^{k − largest} v and e^{k − largest}.
        """
        top = running_max(k, starts)
        kept = (previous(top, starts, EMPTY) - top).exp()
        weight = (k - top).exp()
        terms = torch.stack([weight * v, weight])
        totals = linear_scan(terms, kept)
        numerator, denominator = windowed_sum(terms, totals, kept, self._bias(k.dtype).exp())
        return numerator / denominator, totals, top

    def _bias(self, dtype: torch.dtype) -> Tensor:
        """w, (K, D): row j is of lag j."""
        direction = F.layer_norm(self.direction.to(dtype), (self.taps,))
        return direction.t() * self.gain.to(dtype) + self.offset.to(dtype)

    def _gate(self, q: Tensor, y: Tensor) -> Tensor:
        return apply_linear(self.out_proj, q.sigmoid() * y.to(q.dtype))


def _after(state: AFTConvState, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values (B, L, D) with those that the state has before them, K positions.

    A sum Σ e^k v is that of one token, whose key is the logarithm of Σ e^k and whose value the
    mean.
    """
    total = state.denominator.clamp(min=torch.finfo(k.dtype).tiny)
    key, value = state.exponent + total.log(), state.numerator / total
    k = torch.cat([key[:, None], state.keys, k], dim=1)
    return k, torch.cat([value[:, None], state.values, v], dim=1)
