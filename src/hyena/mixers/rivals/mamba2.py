"""Mamba-2: a state space whose decay, input and output depend on the data, computed in chunks.

Sizes: B batch, L length, D width, I = 2·D channels inside, H heads, P head_dim, n numbers in the
state of a channel, K taps of the short convolution; S positions a chunk, c chunks.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.precision import wide, without_autocast
from hyena.mixers.checks import check_heads
from hyena.mixers.flops import NORM, SIGMOID, LayerFlops, rival_flops
from hyena.mixers.hyena.short_conv import ShortConv, short_conv_step
from hyena.mixers.mixer import Mixer, Room, mixer
from hyena.mixers.projections import apply_linear
from hyena.mixers.rivals.scans.chunks import chunked
from hyena.mixers.state import tensor_state
from hyena.ops import Segments
from hyena.ops.arguments import check_numbers, check_sizes, placement

EXPANSION = 2  # channels inside for each of the model
CHUNK = 64  # positions
FASTEST = 16.0  # rates of decay begin between one and this


@tensor_state
class Mamba2State(NamedTuple):
    """What Mamba-2 remembers of the tokens so far; see `hyena.mixers.state`."""

    inputs: Tensor  # (B, I + 2n, K−1): the last ones of the short convolution, oldest first
    h: Tensor  # (B, H, n, P)


@mixer(
    "mamba2",
    state=Mamba2State,
    options={
        "head_dim": "head_dim",
        "state": "ssm.state",
        "dt_min": "ssm.dt_min",
        "dt_max": "ssm.dt_max",
    },
)
class Mamba2(Mixer):
    r"""``y = mixer(u)`` on (B, L, D), in O(L·D·(D + n + S)).

    Dao & Gu 2024 (arXiv:2405.21060), section 7 and their code. The state h of a head decays by a
    number that depends on the token; B and C, which all heads share, write to it and read it:

    .. math::

        z, x, B, C, \Delta = \mathrm{in\_proj}(u), \quad
        x, B, C \leftarrow \mathrm{SiLU}(\mathrm{short\_conv}(x, B, C)), \quad
        \Delta \leftarrow \mathrm{softplus}(\Delta + \mathrm{step\_bias})

        h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t x_t^\top, \quad
        v_t = h_t^\top C_t + \mathrm{skip} \cdot x_t, \quad
        y = \mathrm{out\_proj}(\mathrm{RMSNorm}(v \odot \mathrm{SiLU}(z)))

    with A = −exp(log_decay) a number for each head. Within chunks this is attention with a mask of
    decays, a few matrix products; from chunk to chunk the states are carried.

    As in the authors' code, rates −A are drawn evenly from 1 to 16, and initial steps Δ evenly on a
    logarithmic scale.

    Args:
        width: D.
        head_dim: P, which divides 2·D. The default is 64, or ``width`` if that is smaller.
        state: n.
        taps: K.
        dt_min, dt_max: bounds of the initial steps.
        device, dtype: of the parameters; the states are computed in float32 or wider.

    Raises: ValueError on sizes or steps that cannot be.
    """

    def __init__(
        self,
        width: int,
        *,
        head_dim: int | None = None,
        state: int = 64,
        taps: int = 4,
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        state, taps = check_sizes("Mamba2", state=state, taps=taps)
        width, head_dim = check_heads("Mamba2", width, head_dim, times=EXPANSION)
        inner = EXPANSION * width
        dt_min, dt_max = check_numbers("Mamba2", dt_min=dt_min, dt_max=dt_max)
        if not 0 < dt_min <= dt_max:
            raise ValueError(
                f"Mamba2: expected 0 < dt_min ≤ dt_max, got dt_min={dt_min}, dt_max={dt_max}"
            )
        place = placement("Mamba2", device, dtype)
        self.width, self.head_dim, self.heads = width, head_dim, inner // head_dim
        self.state, self.taps, self.dt_min, self.dt_max = state, taps, dt_min, dt_max
        self.sizes = (inner, inner + 2 * state, self.heads)  # z; x, B and C; Δ
        self.in_proj = nn.Linear(width, sum(self.sizes), bias=False, **place)
        self.short_conv = ShortConv(inner + 2 * state, taps, **place)
        self.log_decay = nn.Parameter(torch.empty(self.heads, **place))
        self.step_bias = nn.Parameter(torch.empty(self.heads, **place))
        self.skip = nn.Parameter(torch.ones(self.heads, **place))
        self.norm = nn.RMSNorm(inner, eps=1e-5, **place)
        self.out_proj = nn.Linear(inner, width, bias=False, **place)
        if not self.skip.is_meta:  # where PyTorch would load its compiler for nothing
            self.draw()

    @torch.no_grad()
    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws rates of decay and initial steps anew."""
        nn.init.uniform_(self.log_decay, 1.0, FASTEST, generator=generator)
        self.log_decay.log_()
        low, high = math.log(self.dt_min), math.log(self.dt_max)
        nn.init.uniform_(self.step_bias, low, high, generator=generator)
        step = self.step_bias.exp()
        self.step_bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus of it is the step

    def _flops(self, length: int, batch: int) -> LayerFlops:
        inner, n, H, P = self.sizes[0], self.state, self.heads, self.head_dim
        S = min(CHUNK, length)
        chunks, positions = batch * -(-length // S), batch * length
        convolved = positions * self.sizes[1] * (2 * self.taps + SIGMOID + 1)
        # decays: a sum, an exponential and a product for each pair of a chunk; steps with x; reads
        # and skip; softplus; the scan of the states
        mixed = chunks * H * (3 * S * S + 4 * n * P) + positions * (5 * inner + 5 * H)
        return rival_flops(
            positions,
            before=self.width * sum(self.sizes),
            after=inner * self.width,
            # C with B; the scores with x; B with x; C with the states
            products=chunks * 2 * (S * S * n + H * (S * S * P + 2 * S * n * P)),
            pointwise=convolved + mixed + positions * inner * (SIGMOID + 2 + NORM),
        )

    def extra_repr(self) -> str:
        return f"width={self.width}, heads={self.heads}, state={self.state}"

    def _mix(
        self, u: Tensor, mask: Tensor | None, segments: Segments | None, room: Room | None
    ) -> tuple[Tensor, Mamba2State | None]:
        z, inputs, step = self.in_proj(u).split(self.sizes, dim=-1)
        inputs = inputs.transpose(1, 2).contiguous()
        before = None if room is None else room.state
        if before is not None:
            inputs = torch.cat([before.inputs.to(inputs.dtype), inputs], dim=-1)
        convolved = self.short_conv(inputs, segments)[..., inputs.shape[-1] - u.shape[1] :]
        x, write, read = self._read(convolved.transpose(1, 2))
        # Nothing decays and nothing is written at padding, whatever the convolution's bias is.
        step, rate = self._steps(step, mask)
        size = max(min(CHUNK, u.shape[1]), 1)
        ids = None if segments is None else segments.ids
        with without_autocast(u):
            added, log_decay = (step[..., None] * x).transpose(1, 2), (step * rate).transpose(1, 2)
            h = None if before is None else before.h
            v, h = chunked(read[:, None], write[:, None], added, ids, size, log_decay, h)
            v = v.transpose(1, 2) + self.skip.to(x.dtype)[:, None] * x
        y = self.out_proj(self._gated(v, z))
        if room is None:
            return y, None
        keep = self.taps - 1
        inputs = F.pad(inputs, (max(keep - inputs.shape[-1], 0), 0))
        inputs = inputs[..., inputs.shape[-1] - keep :].contiguous()
        return y, Mamba2State(inputs, h[:, :, -1].clone())

    def _step(self, u: Tensor, state: Mamba2State) -> tuple[Tensor, Mamba2State]:
        z, now, step = apply_linear(self.in_proj, u).split(self.sizes, dim=-1)
        before = state.inputs.flip(-1).unbind(-1)
        x, write, read = self._read(short_conv_step(self.short_conv, now, before))
        step, rate = self._steps(step, None)
        with without_autocast(u):
            added = write[:, None, :, None] * (step[..., None] * x)[:, :, None]
            h = (step * rate).exp()[..., None, None] * state.h + added
            v = (read[:, None, :, None] * h).sum(2) + self.skip.to(x.dtype)[:, None] * x
        inputs = torch.cat([state.inputs, now[..., None].to(state.inputs.dtype)], dim=-1)
        return apply_linear(self.out_proj, self._gated(v, z)), Mamba2State(inputs[..., 1:], h)

    def _state_shapes(self) -> tuple[tuple[int, ...], ...]:
        return (self.sizes[1], self.taps - 1), (self.heads, self.state, self.head_dim)

    def _read(self, convolved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (…, H, P), and B and C (…, n), in float32 or wider, of (…, I + 2n)."""
        convolved = F.silu(convolved.to(wide(convolved.dtype)))
        x, write, read = convolved.split([self.sizes[0], self.state, self.state], dim=-1)
        return x.unflatten(-1, (self.heads, self.head_dim)), write, read

    def _gated(self, v: Tensor, z: Tensor) -> Tensor:
        """Of heads v (…, H, P) and gates z (…, I)."""
        gated = v.flatten(-2) * F.silu(z.to(v.dtype))
        return self.norm(gated.to(self.norm.weight.dtype)).to(z.dtype)

    def _steps(self, step: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Δ (…, H) and A (H,), in float32 or wider."""
        dtype = wide(step.dtype)
        step = F.softplus(step.to(dtype) + self.step_bias.to(dtype))
        if mask is not None:
            step = step.masked_fill(~mask[..., None], 0)
        return step, -self.log_decay.to(dtype).exp()
