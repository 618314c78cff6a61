"""One block: a mixer along the sequence, then an MLP along the width, each on a residual."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.plain import is_plain
from hyena.mixers.mixer import Room
from hyena.mixers.state import MixerState
from hyena.model.build import build_mixer, build_mlp, build_norm
from hyena.model.config import ModelConfig
from hyena.model.mlp import matrices_of
from hyena.model.norm import normalize
from hyena.model.piece import Piece
from hyena.ops import Segments
from hyena.ops.native import block as native


class Block(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, on (B, L, D), in the dtype of x.

    Args: config of the model; which of its layers it is, from 0; device and dtype of the
        parameters.
    """

    def __init__(self, config: ModelConfig, layer: int, **place: Any) -> None:
        super().__init__()
        self.norm1 = build_norm(config, **place)
        self.mixer = build_mixer(config, config.layer_mixers()[layer], **place)
        self.norm2 = build_norm(config, **place)
        self.mlp = build_mlp(config, layer, **place)
        self.dropout = config.dropout

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        segments: Segments | None,
        piece: Piece | None = None,
    ) -> Tensor:
        u = normalize(self.norm1, x, self.mixer)
        if piece is None:
            mixed = self.mixer(u, mask=mask, document_ids=segments)
        else:  # which knows the segments of the whole rows
            mixed, _ = piece.mix(self.mixer, u, mask, None)
        return self._finish(x, mixed)

    def prefill(
        self,
        x: Tensor,
        mask: Tensor | None,
        future: int | None,
        keep_inputs: bool | torch.dtype,
        state: Any = None,
        piece: Piece | None = None,
    ) -> tuple[Tensor, MixerState]:
        u = normalize(self.norm1, x, self.mixer)
        if piece is None:
            options = {"mask": mask, "future": future, "keep_inputs": keep_inputs, "state": state}
            mixed, state = self.mixer.prefill(u, **options)
        else:
            mixed, state = piece.mix(self.mixer, u, mask, Room(future, keep_inputs, state))
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
        """What a step reads besides the mixer, if it is no more than layer norms, two layers and
        tanh-GELU: what the kernel knows."""
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


def _plain_norm(norm: nn.Module | None) -> native.LayerNorm | None:
    """Of a layer norm that is this and nothing else."""
    if norm is None or not is_plain(norm, nn.LayerNorm):
        return None
    weight, bias = norm._parameters["weight"], norm._parameters["bias"]
    if weight is None or bias is None:
        return None
    return native.LayerNorm(weight, bias, norm.eps)
