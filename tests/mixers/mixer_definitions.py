"""The mixers' definitions, one position, tap and channel at a time, from the modules' weights."""

import torch
from torch import Tensor

from hyena.mixers import CausalSelfAttention, HyenaOperator


def toeplitz(h: Tensor, length: int, lead: int) -> Tensor:
    """(L, L): entry (t, s) is the tap with lag t − s, of taps (K,) whose first has lag −lead."""
    matrix = torch.zeros(length, length, dtype=h.dtype)
    for t in range(length):
        for s in range(length):
            if 0 <= t - s + lead < h.shape[0]:
                matrix[t, s] = h[t - s + lead]
    return matrix


def hyena_matrices(op: HyenaOperator, u: Tensor) -> tuple[Tensor, Tensor]:
    """H(u) (D, L, L) of one row u (L, D), and the value v (L, D) that it acts on.

    H(u) = D(x⁰) S(h^{N−1}) D(x¹) … S(h¹) D(x^{N−1}), with D diagonal and S Toeplitz.
    """
    L, D = u.shape
    N = op.order
    short = op.centred_short_conv if op.bidirectional else op.short_conv
    filter = op.two_sided_filter if op.bidirectional else op.filter
    z = u @ op.in_proj.weight.t() + op.in_proj.bias  # (L, (N+1)·D)
    K = short.weight.shape[1]
    lead = (K - 1) // 2 if op.bidirectional else 0
    convolved = torch.zeros_like(z) + short.bias
    for t in range(L):
        for j in range(K):
            if 0 <= t - (j - lead) < L:
                convolved[t] = convolved[t] + short.weight[:, j] * z[t - (j - lead)]
    projections = [convolved[:, i * D : (i + 1) * D] for i in range(N + 1)]
    h = filter(L)
    matrices = []
    for d in range(D):
        H = torch.diag(projections[0][:, d])
        for n in range(1, N):  # x¹ is the gate before the last convolution
            i = N - 1 - n
            S = toeplitz(h[i, d], L, L - 1 if op.bidirectional else 0)
            S = S + filter.skip[i, d] * torch.eye(L, dtype=u.dtype)
            H = H @ S @ torch.diag(projections[n][:, d])
        matrices.append(H)
    return torch.stack(matrices), projections[N]


def hyena_operator(op: HyenaOperator, u: Tensor) -> Tensor:
    """The operator by its matrices, (B, L, D)."""
    rows = []
    for row in u:
        H, v = hyena_matrices(op, row)
        rows.append(torch.einsum("dts,sd->td", H, v))
    return torch.stack(rows) @ op.out_proj.weight.t() + op.out_proj.bias


def rotary_attention(op: CausalSelfAttention, u: Tensor) -> Tensor:
    """Causal attention in which scores depend on positions through their difference only, or, if
    ``op`` is not rotary, not at all. Neighbouring heads of queries read one head of keys."""
    B, L, D = u.shape
    E, half = op.head_dim, op.head_dim // 2
    z = u @ op.in_proj.weight.t()
    if op.in_proj.bias is not None:
        z = z + op.in_proj.bias
    q, k, v = z.split([D, op.kv_heads * E, op.kv_heads * E], dim=-1)
    theta = torch.tensor([op.rotary_base ** (-2 * i / E) for i in range(half)], dtype=u.dtype)
    theta = theta * op.rotary / op.rotary_scale
    out = torch.zeros_like(u)
    for b in range(B):
        for head in range(op.heads):
            part = slice(head * E, (head + 1) * E)
            read = head * op.kv_heads // op.heads
            keys = slice(read * E, (read + 1) * E)
            pairs = q[b, :, part], k[b, :, keys]
            qc, kc = (torch.complex(x[:, :half], x[:, half:]) for x in pairs)
            for t in range(L):
                turn = torch.stack(
                    [torch.polar(torch.ones_like(theta), theta * (t - s)) for s in range(t + 1)]
                )
                scores = (qc[t] * kc[: t + 1].conj() * turn).real.sum(-1) / E**0.5
                out[b, t, part] = scores.softmax(0) @ v[b, : t + 1, keys]
    return out @ op.out_proj.weight.t() + op.out_proj.bias
