"""What a block does along the width, on each position alone.

Sizes: B batch, L length, D width, H hidden.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.plain import is_plain, matrix_of
from hyena.mixers.projections import apply_linear
from hyena.ops.native.linear import Layer
from hyena.ops.observed import unobserved

Activation = Literal["gelu-tanh", "gelu", "silu", "identity"]


class MLP(nn.Module):
    """``down(act(up(x)))``: two linear layers D → H → D with an activation between.

    Args: width D; hidden H; activation; device and dtype of the parameters.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Activation = "gelu-tanh",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up = nn.Linear(width, hidden, device=device, dtype=dtype)
        self.down = nn.Linear(hidden, width, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D), or a token of each row (B, D)."""
        own = matrix_of(self.up) is not None
        hidden = activated(self.activation, apply_linear(self.up, x), own=own)
        return apply_linear(self.down, hidden)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


class GatedMLP(nn.Module):
    """``down(act(gate(x)) · up(x))``, linear layers without biases (Shazeer 2020,
    arXiv:2002.05202).

    Args: width D; hidden H; activation; device and dtype of the parameters.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Activation = "gelu-tanh",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.gate = nn.Linear(width, hidden, bias=False, device=device, dtype=dtype)
        self.up = nn.Linear(width, hidden, bias=False, device=device, dtype=dtype)
        self.down = nn.Linear(hidden, width, bias=False, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D), or a token of each row (B, D)."""
        own = matrix_of(self.gate) is not None
        gate = activated(self.activation, apply_linear(self.gate, x), own=own)
        up = apply_linear(self.up, x)
        gated = gate.mul_(up) if own and unobserved(gate, up) else gate * up
        return apply_linear(self.down, gated)

    def extra_repr(self) -> str:
        return f"activation={self.activation}"


def activated(activation: Activation, x: Tensor, *, own: bool = False) -> Tensor:
    """The activation of this name, number by number; "gelu" is the exact one, by the error
    function.

    Args: own: nobody else has x, so that where nobody looks on the result takes its place.
    """
    if activation == "identity":
        return x
    in_place = own and unobserved(x)
    if activation == "silu":
        return F.silu(x, inplace=in_place)
    gelu = torch.ops.aten.gelu_ if in_place else F.gelu
    y: Tensor = gelu(x, approximate="tanh" if activation == "gelu-tanh" else "none")
    return y


def is_by_position(mlp: nn.Module | None) -> bool:
    """Whether an MLP is its formula and nothing else, and so the same on each position."""
    if mlp is None or not (is_plain(mlp, MLP) or is_plain(mlp, GatedMLP)):
        return False
    return all(matrix_of(layer) is not None for layer in mlp.children())


def hidden_arrays(mlp: nn.Module) -> int:
    """How many arrays of hidden values an MLP has at once where none may take another's place:
    before and after an activation, and of a gated one both factors and their product."""
    return 3 if isinstance(mlp, GatedMLP) else 2


def matrices_of(mlp: nn.Module | None) -> tuple[Layer, Layer] | None:
    """The two layers of a plain MLP with tanh-GELU that is its formula and nothing else."""
    if mlp is None or not is_plain(mlp, MLP) or mlp.activation != "gelu-tanh":
        return None
    up, down = matrix_of(mlp.up), matrix_of(mlp.down)
    return None if up is None or down is None else (up, down)
