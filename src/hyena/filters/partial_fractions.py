r"""A ratio of polynomials as a sum of exponentials, which can be stepped.

Sizes: C channels, N degree, m terms.
"""

import torch
from torch import Tensor

# A pole so close to zero is moved out to this modulus: its powers vanish at once, and a weight is
# the size of the second tap over that of the pole.
_SMALLEST_POLE = 1e-3


def partial_fractions(numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor]:
    r"""The power series of b(z)/a(z) as exponentials, by the roots p of a.

    With b_0 taken out the ratio is strictly proper, and for poles that differ

    .. math:: h_t = \sum_i r_i\,p_i^{t-1} \ (t \ge 1), \qquad
        r_i = \frac{\sum_{k=1}^{N} (b_k - b_0 a_k)\,p_i^{N-k}}{\prod_{j \ne i} (p_i - p_j)} .

    Of a conjugate pair one is kept. A last term with decay 0 is what lag 0 has beside the others.
    Where poles nearly coincide the weights are large and cancel: compare the taps.

    Args: b and a, each (C, N + 1) real, a_0 = 1.
    Returns: decay and weight (C, m) complex128 of h_t = 2 Re Σ_i weight_i · decay_i^t, m ≤ N + 1;
        terms that a channel does not need have weight 0.
    """
    b, a = numerator.double(), denominator.double()
    C, N = b.shape[0], b.shape[1] - 1
    companion = torch.zeros(C, N, N, dtype=a.dtype, device=a.device)
    companion[:, 0] = -a[:, 1:]
    companion.diagonal(-1, 1, 2).fill_(1)
    p = torch.linalg.eigvals(companion)  # (C, N)

    # Where both polynomials end before N, as many poles are no more than zeros of both.
    degree = N - ((a[:, 1:] == 0) & (b[:, 1:] == 0)).flip(1).cumprod(1).sum(1, keepdim=True)
    modulus = p.abs()
    idle = modulus.argsort(1, descending=True).argsort(1) >= degree
    moved = torch.where(modulus > 0, p / modulus, 1.0) * _SMALLEST_POLE
    p = torch.where(modulus < _SMALLEST_POLE, moved, p)

    value = torch.zeros_like(p)
    for k, coefficient in enumerate((b - b[:, :1] * a)[:, 1:].unbind(1), start=1):
        value = torch.where(k <= degree, value * p + coefficient[:, None], value)
    apart = torch.where(idle[:, None, :], 1.0, p[:, :, None] - p[:, None, :])
    apart.diagonal(0, 1, 2).fill_(1)
    weight = torch.where(idle, 0.0, value / apart.prod(-1) / p)
    weight = torch.where(p.imag == 0, weight / 2, weight)

    kept = (p.imag >= 0) & ~idle
    first = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : int(kept.sum(1).max())]
    p = torch.where(kept, p, 0).gather(1, first)
    weight = torch.where(kept, weight, 0).gather(1, first)
    rest = b[:, :1] / 2 - weight.real.sum(1, keepdim=True)
    decay = torch.cat([p, torch.zeros_like(p[:, :1])], dim=1)
    return decay, torch.cat([weight, rest.to(weight.dtype)], dim=1)
