"""State space mixers by definition: one position after the other, from the modules' weights."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers import GSS, H3, S4D
from hyena.mixers.rivals.state_space import StateSpace


def state_space(ssm: StateSpace, u: Tensor) -> Tensor:
    """u (L, C) → y (L, C): x ← e^{ΔA} x + (e^{ΔA} − 1)/A · u, y = 2 Re(C·x) + skip·u."""
    taps = ssm.taps
    A = torch.complex(-taps.log_decay[0].exp(), taps.frequency[0])
    stepped = (taps.log_step[0].exp()[:, None] * A).exp()
    C = torch.view_as_complex(taps.weight[0])
    x, outputs = torch.zeros_like(A), []
    for now in u:
        x = stepped * x + (stepped - 1) / A * now[:, None]
        outputs.append(2 * (C * x).real.sum(-1) + ssm.skip * now)
    return torch.stack(outputs)


def by_rows(mixer: S4D | H3 | GSS, u: Tensor) -> Tensor:
    """(B, L, D) → (B, L, D)."""
    definition = {S4D: _s4d, H3: _h3, GSS: _gss}[type(mixer)]
    return torch.stack([definition(mixer, row) for row in u])


def _s4d(mixer: S4D, u: Tensor) -> Tensor:
    z = mixer.out_proj(F.gelu(state_space(mixer.filter, u)))
    return z[:, : mixer.width] * torch.sigmoid(z[:, mixer.width :])


def _h3(mixer: H3, u: Tensor) -> Tensor:
    D, E = mixer.width, mixer.head_dim
    z = mixer.in_proj(u)
    q, k, v = z[:, :D], z[:, D : 2 * D], z[:, 2 * D :]
    shifted = []
    for t in range(len(u)):  # a register of the last keys, the newest first
        register = [k[t - j] if j <= t else torch.zeros_like(k[0]) for j in range(mixer.state)]
        total = sum(mixer.shift.weight[:, j] * key for j, key in enumerate(register))
        shifted.append(total + mixer.shift.skip * k[t])
    k = torch.stack(shifted)
    columns: list[Tensor] = []
    for head in range(D // E):
        one = copy_of_channel(mixer.filter, head)
        for j in range(E):
            column = torch.zeros_like(u[:, 0])
            for i in range(E):
                product = k[:, head * E + i] * v[:, head * E + j]
                column = column + q[:, head * E + i] * one(product)
            columns.append(column)
    return mixer.out_proj(torch.stack(columns, dim=1))


def _gss(mixer: GSS, u: Tensor) -> Tensor:
    gate = F.gelu(mixer.gate_proj(u))
    x = F.gelu(mixer.in_proj(u))
    centred = x - x.mean(-1, keepdim=True)
    x = centred / (centred.square().mean(-1, keepdim=True) + mixer.norm.eps).sqrt()
    y = state_space(mixer.filter, x * mixer.norm.weight + mixer.norm.bias)
    return mixer.out_proj(mixer.up_proj(y) * gate)


def copy_of_channel(ssm: StateSpace, channel: int):  # type: ignore[no-untyped-def]
    """The state space of one channel as a function (L,) → (L,)."""

    def run(u: Tensor) -> Tensor:
        C = ssm.skip.shape[0]
        return state_space(ssm, u[:, None].expand(-1, C))[:, channel]

    return run
