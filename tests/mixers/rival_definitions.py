"""Linear attention, RWKV and AFT-conv as weights of every position for every other one.

Each takes the module's weights and u (B, L, D); the weights of a mean are (B, L, L) a channel or
head, and where they are a softmax, PyTorch's takes care of large numbers.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers import RWKV, AFTConv, LinearAttention


def lags(length: int) -> Tensor:
    """(L, L): t − s."""
    t = torch.arange(length)
    return t[:, None] - t[None, :]


def linear_attention(op: LinearAttention, u: Tensor) -> Tensor:
    """Scores φ(q)·φ(k) of the past, divided by their sum."""
    q, k, v = (u @ op.in_proj.weight.t() + op.in_proj.bias).chunk(3, dim=-1)
    outputs = []
    for head in range(op.heads):
        part = slice(head * op.head_dim, (head + 1) * op.head_dim)
        scores = (F.elu(q[..., part]) + 1) @ (F.elu(k[..., part]) + 1).transpose(1, 2)
        scores = scores * (lags(u.shape[1]) >= 0)
        outputs.append(scores @ v[..., part] / (scores.sum(-1, keepdim=True) + 1e-6))
    return torch.cat(outputs, dim=-1) @ op.out_proj.weight.t() + op.out_proj.bias


def wkv(k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor) -> Tensor:
    """The means of RWKV, (B, L, D), as a softmax for each channel."""
    lag = lags(k.shape[1])
    outputs = []
    for d in range(k.shape[-1]):
        logits = k[:, None, :, d] - (lag - 1) * decay[d]
        logits = torch.where(lag == 0, k[:, None, :, d] + bonus[d], logits)
        logits = logits.masked_fill(lag < 0, -math.inf)
        outputs.append((logits.softmax(-1) @ v[..., d, None])[..., 0])
    return torch.stack(outputs, dim=-1)


def rwkv(op: RWKV, u: Tensor) -> Tensor:
    before = torch.cat([torch.zeros_like(u[:, :1]), u[:, :-1]], dim=1)
    r, k, v = (
        (mix * u + (1 - mix) * before) @ linear.weight.t()
        for mix, linear in (
            (op.mix_receptance, op.receptance),
            (op.mix_key, op.key),
            (op.mix_value, op.value),
        )
    )
    return (r.sigmoid() * wkv(k, v, op.log_decay.exp(), op.bonus)) @ op.out_proj.weight.t()


def aft_conv(op: AFTConv, u: Tensor) -> Tensor:
    q, k, v = (u @ op.in_proj.weight.t() + op.in_proj.bias).chunk(3, dim=-1)
    centred = op.direction - op.direction.mean(1, keepdim=True)
    deviation = (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()
    w = op.gain[:, None] * centred / deviation + op.offset[:, None]  # (D, K)
    lag = lags(u.shape[1])
    near = (lag >= 0) & (lag < op.taps)
    outputs = []
    for d in range(op.width):
        bias = torch.where(near, w[d][lag.clamp(0, op.taps - 1)], 0.0)
        logits = (k[:, None, :, d] + bias).masked_fill(lag < 0, -math.inf)
        outputs.append((logits.softmax(-1) @ v[..., d, None])[..., 0])
    return (q.sigmoid() * torch.stack(outputs, -1)) @ op.out_proj.weight.t() + op.out_proj.bias
