"""Norms of the residual stream, of each position alone.

Sizes: D width.
"""

from itertools import chain
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.plain import call_in, is_plain
from hyena.ops.observed import unobserved


class RMSNorm(nn.Module):
    r"""Divides each position by its root mean square, to which ``eps`` is added.

    .. math:: y = \frac{x}{\lVert x \rVert_2 / \sqrt{D} + \mathrm{eps}} \cdot \mathrm{weight}

    Zhang and Sennrich 2019 (arXiv:1910.07467), as StripedHyena has it; `torch.nn.RMSNorm` has its
    epsilon under the root, which is another function. Computed in float32 or wider.

    Args: width D; eps, above 0; device and dtype of the weight.
    Shape: (…, D) → (…, D), dtype of the input.
    """

    def __init__(
        self,
        width: int,
        eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.width, self.eps = width, eps
        self.weight = nn.Parameter(torch.ones(width, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return _rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"width={self.width}, eps={self.eps:g}"


Norm = nn.LayerNorm | RMSNorm


def is_known(norm: nn.Module) -> TypeGuard[Norm]:
    """Whether it is one of these norms and nothing else, and so the same on each position."""
    return is_plain(norm, nn.LayerNorm) or is_plain(norm, RMSNorm)


def normalize(norm: nn.Module, x: Tensor, reader: nn.Module) -> Tensor:
    """``norm`` in the residual's dtype; the result has the parameters', maybe of fewer bits: the
    norm's own, or if it has none those of the module that reads it."""
    own = norm._parameters
    weight, bias = own.get("weight"), own.get("bias")
    if weight is not None and bias is not None and is_plain(norm, nn.LayerNorm):
        y = F.layer_norm(x, norm.normalized_shape, weight.to(x.dtype), bias.to(x.dtype), norm.eps)
        return y.to(weight.dtype)
    if weight is not None and is_plain(norm, RMSNorm):
        return _rms_norm(x, weight, norm.eps).to(weight.dtype)
    y = call_in(norm, x)
    parameters = chain(norm.parameters(), reader.parameters())
    return next((y.to(p.dtype) for p in parameters if p.is_floating_point()), y)


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    z, weight = x.to(wide), weight.to(wide)
    size = torch.linalg.vector_norm(z, dim=-1, keepdim=True) * x.shape[-1] ** -0.5
    y = z / (size + eps)
    # Of a long input an array less.
    y = y.mul_(weight) if unobserved(x, weight) else y * weight
    return y.to(x.dtype)
