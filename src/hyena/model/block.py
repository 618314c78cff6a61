"""One block: a mixer along the sequence, then an MLP along the width, each on a residual."""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.plain import call_in, is_plain, matrix_of
from hyena.mixers.projections import apply_linear
from hyena.mixers.state import MixerState
from hyena.model.build import build_mixer
from hyena.model.config import ModelConfig
from hyena.ops import Segments
from hyena.ops.native import block as native
from hyena.ops.native.linear import Layer


class Block(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, on (B, L, D), in the dtype of x."""

    def __init__(self, config: ModelConfig, mixer: str, **place: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, **place)
        self.mixer = build_mixer(config, mixer, **place)
        self.norm2 = nn.LayerNorm(config.width, **place)
        self.mlp = MLP(config.width, config.hidden, **place)
        self.dropout = config.dropout

    def forward(self, x: Tensor, mask: Tensor | None, segments: Segments | None) -> Tensor:
        mixed = self.mixer(normalize(self.norm1, x, self.mixer), mask=mask, document_ids=segments)
        return self._finish(x, mixed)

    def prefill(
        self,
        x: Tensor,
        mask: Tensor | None,
        future: int | None,
        keep_inputs: bool | torch.dtype,
        state: Any = None,
    ) -> tuple[Tensor, MixerState]:
        u = normalize(self.norm1, x, self.mixer)
        options = {"mask": mask, "future": future, "keep_inputs": keep_inputs, "state": state}
        mixed, state = self.mixer.prefill(u, **options)
        return self._finish(x, mixed), state

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, MixerState]:
        """x (B, D)."""
        mixed, state = self.mixer.step(normalize(self.norm1, x, self.mixer), state)
        layers = self.plain_layers()
        y = None
        if layers is not None and native.takes(x, layers):
            y = native.after_mixer(x, mixed, layers)
        return (self._finish(x, mixed) if y is None else y), state

    def plain_layers(self) -> native.Layers | None:
        """What a step reads besides the mixer, if it is no more than norms, layers and GELU."""
        parts = self._modules
        first, second = _plain_norm(parts["norm1"]), _plain_norm(parts["norm2"])
        matrices = matrices_of(parts["mlp"])
        if first is None or second is None or matrices is None:
            return None
        if self.training and self.dropout > 0:
            return None
        return native.Layers(first, second, *matrices)

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + self._dropped(mixed)
        return x + self._dropped(self.mlp(normalize(self.norm2, x, self.mlp)))

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout > 0 else x


class MLP(nn.Module):
    """Two linear layers with tanh-GELU between."""

    def __init__(self, width: int, hidden: int, **place: Any) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, **place)
        self.down = nn.Linear(hidden, width, **place)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D), or a token of each row (B, D)."""
        return apply_linear(self.down, F.gelu(apply_linear(self.up, x), approximate="tanh"))


def matrices_of(mlp: nn.Module | None) -> tuple[Layer, Layer] | None:
    """The two layers of an MLP that is its formula and nothing else, and so the same on each
    position."""
    if mlp is None or not is_plain(mlp, MLP):
        return None
    up, down = matrix_of(mlp.up), matrix_of(mlp.down)
    return None if up is None or down is None else (up, down)


def normalize(norm: nn.Module, x: Tensor, reader: nn.Module) -> Tensor:
    """``norm`` in the residual's dtype; the result has the parameters', maybe of fewer bits: the
    norm's own, or if it has none those of the module that reads it."""
    own = norm._parameters
    weight, bias = own.get("weight"), own.get("bias")
    if weight is not None and bias is not None and is_plain(norm, nn.LayerNorm):
        y = F.layer_norm(x, norm.normalized_shape, weight.to(x.dtype), bias.to(x.dtype), norm.eps)
        return y.to(weight.dtype)
    y = call_in(norm, x)
    parameters = chain(norm.parameters(), reader.parameters())
    return next((y.to(p.dtype) for p in parameters if p.is_floating_point()), y)


def _plain_norm(norm: nn.Module | None) -> native.LayerNorm | None:
    """Of a layer norm that is this and nothing else."""
    if norm is None or not is_plain(norm, nn.LayerNorm):
        return None
    weight, bias = norm._parameters["weight"], norm._parameters["bias"]
    if weight is None or bias is None:
        return None
    return native.LayerNorm(weight, bias, norm.eps)
