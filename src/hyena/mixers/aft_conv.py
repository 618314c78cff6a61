"""AFT-conv: a softmax over the past for each channel alone, with learned weights near by.

Sizes: B batch, L length, D width, K taps.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.precision import wide
from hyena.mixers.packing import (
    check_input,
    check_left_padding,
    check_mask,
    check_state,
    check_token,
    segments_of,
)
from hyena.mixers.previous import previous, starts_of
from hyena.mixers.projections import step_of
from hyena.mixers.scan import EMPTY, linear_scan, running_max
from hyena.mixers.state import tensor_state
from hyena.mixers.windowed_sum import windowed_sum
from hyena.ops import Segments


@tensor_state
class AFTConvState(NamedTuple):
    """What AFT-conv remembers of the tokens so far; see `hyena.mixers.state`."""

    keys: Tensor  # (B, K−1, D): of the last tokens, oldest first; `scan.EMPTY` where there are none
    values: Tensor  # (B, K−1, D)
    numerator: Tensor  # (B, D): Σ e^{k − exponent} v of the tokens before these
    denominator: Tensor  # (B, D): Σ e^{k − exponent}
    exponent: Tensor  # (B, D): the largest of their keys


class AFTConv(nn.Module):
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
        if width < 1 or taps < 1:
            raise ValueError(
                f"AFTConv: expected width ≥ 1 and taps ≥ 1, got width={width}, taps={taps}"
            )
        self.width, self.taps = width, taps
        self.in_proj = nn.Linear(width, 3 * width, device=device, dtype=dtype)
        self.out_proj = nn.Linear(width, width, device=device, dtype=dtype)
        self.direction = nn.Parameter(torch.empty(width, taps, device=device, dtype=dtype))
        self.gain = nn.Parameter(torch.zeros(width, device=device, dtype=dtype))
        self.offset = nn.Parameter(torch.zeros(width, device=device, dtype=dtype))
        self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws the direction of the biases, and sets gain and offset to zero."""
        nn.init.normal_(self.direction, generator=generator)
        nn.init.zeros_(self.gain)
        nn.init.zeros_(self.offset)

    def forward(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        document_ids: Tensor | Segments | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> Tensor:
        """Mixes along the sequence; arguments, result and errors as `HyenaOperator.forward`."""
        check_input("AFTConv", u, self.width)
        B, L, _ = u.shape
        check_mask("AFTConv", mask, B, L)
        segments = segments_of("AFTConv", document_ids, cu_seqlens, B, L)
        q, k, v = self._project(u, mask)
        y, _, _ = self._average(k, v, starts_of(segments))
        return self._gate(q, y)

    def prefill(
        self,
        u: Tensor,
        *,
        mask: Tensor | None = None,
        future: int | None = None,
        keep_inputs: bool = False,
    ) -> tuple[Tensor, AFTConvState]:
        """``forward``, and the state that `step` goes on from; padding on the left only.

        The state has one size: ``future`` and ``keep_inputs`` make no difference.

        Raises: ValueError if a row of the mask has padding after a real token, or no real token.
        """
        check_input("AFTConv", u, self.width)
        L = u.shape[1]
        check_mask("AFTConv", mask, u.shape[0], L)
        check_left_padding("AFTConv", mask)
        q, k, v = self._project(u, mask)
        y, totals, top = self._average(k, v, None)
        near = min(self.taps - 1, L)  # tokens that stay in the window of the next one
        missing = (0, 0, self.taps - 1 - near, 0)
        if near < L:
            before = totals[:, :, L - 1 - near].clone()
            exponent = top[:, L - 1 - near].clone()
        else:
            before, exponent = torch.zeros_like(totals[:, :, 0]), torch.full_like(top[:, 0], EMPTY)
        state = AFTConvState(
            F.pad(k[:, L - near :], missing, value=EMPTY),
            F.pad(v[:, L - near :], missing),
            before[0],
            before[1],
            exponent,
        )
        return self._gate(q, y), state

    def step(self, u: Tensor, state: AFTConvState) -> tuple[Tensor, AFTConvState]:
        """One more token: u (B, D) → y (B, D) and the next state, in O(D·(D + K))."""
        check_state(
            "AFTConv",
            state,
            isinstance(state, AFTConvState) and state.keys.shape[1:] == (self.taps - 1, self.width),
        )
        check_token("AFTConv", u, state.keys.shape[0], self.width, state.keys.dtype)
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

    def state_size(self, length: int, future: int | None = None) -> int:
        """Numbers that `AFTConvState` holds for one sequence, after however many tokens."""
        return (2 * (self.taps - 1) + 3) * self.width

    def extra_repr(self) -> str:
        return f"width={self.width}, taps={self.taps}"

    def _project(self, u: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """q, and in float32 or wider k and v, of u (B, L, D) or (B, D). Padding has a key of no
        weight."""
        if mask is not None:  # whatever stands at padding, be it NaN, has weight zero
            u = u.masked_fill(~mask[..., None], 0)
        q, k, v = step_of(self.in_proj, u).chunk(3, dim=-1)
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
        return step_of(self.out_proj, q.sigmoid() * y.to(q.dtype))
