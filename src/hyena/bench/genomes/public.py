"""A whole model as the public code of HyenaDNA computes it, written by us.

Sizes: B batch, L length, D width, V vocabulary.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.bench.convolution.baselines import PublicOperator
from hyena.mixers import HyenaOperator
from hyena.model import LanguageModel
from hyena.model.block import Block
from hyena.model.mlp import MLP


class PublicModel(nn.Module):
    """A language model of Hyena operators in plain PyTorch, with the weights of ours.

    Nguyen et al. 2023 (arXiv:2306.15794): blocks of a norm, a `PublicOperator`, a norm and an MLP,
    each of whole arrays; then a norm and the logits of all positions. (B, L) → (B, L, V).

    Raises: ValueError if a part of ours is another one.
    """

    def __init__(self, ours: LanguageModel) -> None:
        super().__init__()
        config = ours.config
        parts = {
            "mixers": config.mixers,
            "norm": config.norm,
            "mlp": config.mlp,
            "activation": config.activation,
        }
        expected = {"mixers": "hyena", "norm": "layer", "mlp": "plain", "activation": "gelu-tanh"}
        if parts != expected or ours.head is not None or ours.positions is not None:
            raise ValueError(
                f"PublicModel: expected a model of {expected} with a tied head and without learned "
                f"positions, got {parts}"
            )
        self.vocabulary = config.vocab_size
        self.embedding = copy.deepcopy(ours.embedding)
        self.blocks = nn.ModuleList([_PublicBlock(block) for block in ours.blocks])
        self.norm = copy.deepcopy(ours.norm)

    def forward(self, input_ids: Tensor) -> Tensor:
        x = self.embedding(input_ids)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight[: self.vocabulary])

    def token_scores(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """The log-probability of each target (B, L), in float32 or wider."""
        logits = self(input_ids)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        scores: Tensor = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        return scores


class _PublicBlock(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, on (B, L, D)."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        assert isinstance(ours, Block)
        assert isinstance(ours.mixer, HyenaOperator)
        assert isinstance(ours.mlp, MLP)
        self.norm1, self.norm2 = copy.deepcopy(ours.norm1), copy.deepcopy(ours.norm2)
        self.mixer = PublicOperator(ours.mixer)
        self.up, self.down = copy.deepcopy(ours.mlp.up), copy.deepcopy(ours.mlp.down)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x))
        hidden = F.gelu(self.up(self.norm2(x)), approximate="tanh")
        return x + self.down(hidden)
