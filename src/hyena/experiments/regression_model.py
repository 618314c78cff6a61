"""A model of real-valued sequences: the language model's blocks between two linear layers.

Sizes: B batch, T positions, E features of a position, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hyena.model import ModelConfig
from hyena.model.block import Block
from hyena.model.build import build_norm
from hyena.model.initialization import initialize
from hyena.model.norm import normalize


class RegressionModel(nn.Module):
    """Predicts a number at each position from the vectors up to it.

    As in Garg et al. 2022 (arXiv:2208.01066), who learn functions in context: a linear layer in
    place of the embedding, and another one to a scalar in place of the head.

    Args:
        config: the blocks; its vocab_size is of no meaning here.
        features: E.
        generator: where the initial weights come from; None means PyTorch's own.
    """

    def __init__(
        self, config: ModelConfig, features: int, *, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.features = features
        self.read_in = nn.Linear(features, config.width)
        self.positions = None
        if config.positions == "learned":
            self.positions = nn.Embedding(config.max_length, config.width)
        self.blocks = nn.ModuleList([Block(config, i) for i in range(config.layers)])
        self.norm = build_norm(config)
        self.head = nn.Linear(config.width, 1)
        initialize(self, config.layers, generator, linear=config.initial)

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions (B, T) from inputs (B, T, E).

        Raises: ValueError on another shape, or a length that the length policy refuses.
        """
        if inputs.dim() != 3 or inputs.shape[2] != self.features:
            raise ValueError(
                f"RegressionModel: expected inputs (B, T, {self.features}), got "
                f"{tuple(inputs.shape)}"
            )
        length = inputs.shape[1]
        if length > self.config.max_length and self.config.length_policy == "error":
            raise ValueError(
                f"RegressionModel: the input has {length} positions but max_length is "
                f"{self.config.max_length}; shorten it, or choose another length_policy"
            )
        x = self.read_in(inputs)
        if self.positions is not None:
            x = x + self.positions.weight[:length]
        for block in self.blocks:
            x = block(x, None, None)
        return self.head(normalize(self.norm, x, self.head)).squeeze(-1)
