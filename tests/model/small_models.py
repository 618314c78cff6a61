"""Small models whose every part has a say in the logits."""

from typing import Any

import torch
from torch import Tensor, nn

from hyena.model import FilterConfig, LanguageModel, ModelConfig

PATTERNS = ["hyena", "attention", "hyena,hyena,attention"]
VOCABULARY = 29
KEPT = ".sine_freq", ".encoding", ".decay", "poles"  # of others filters are noise, or grow
# A model as StripedHyena is: other norms, MLPs and head, and an activation for each layer.
STRIPES: dict[str, Any] = {
    "tied": False,
    "norm": "rms",
    "norm_eps": 0.01,
    "mlp": "gated",
    "activation": "gelu,silu,identity",
}


def small_config(mixers: str = "hyena", **changes: Any) -> ModelConfig:
    """Three blocks of width 12 over 29 tokens, with three padding rows in the embedding."""
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "width": 12,
        "layers": 3,
        "mlp_width": 20,
        "mixers": mixers,
        "max_length": 24,
        "order": 3,
        "head_dim": 4,
        "filter": FilterConfig(emb_dim=5, width=6, sine_freq=3.0),
    }
    return ModelConfig(**{**values, **changes})


def small_model(
    mixers: str = "hyena", dtype: torch.dtype = torch.float64, **changes: Any
) -> LanguageModel:
    """A model of `small_config`, in evaluation mode.

    The weights are much larger than initial ones and no bias is zero: with the initial ones a
    block adds so little to the residual that a wrong one would hardly show. The same each time.
    """
    generator = torch.Generator().manual_seed(5)
    model = LanguageModel(small_config(mixers, **changes), generator=generator, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith(KEPT):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.3 * noise.to(dtype))
    return model.eval()


class LowRank(nn.Module):
    """An embedding with an adapter, as LoRA has it, not merged."""

    def __init__(self, base: nn.Embedding) -> None:
        super().__init__()
        self.base = base
        dtype = base.weight.dtype
        self.a = nn.Parameter(0.3 * torch.randn(3, base.num_embeddings, dtype=dtype))
        self.b = nn.Parameter(0.3 * torch.randn(base.embedding_dim, 3, dtype=dtype))

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    def forward(self, ids: Tensor) -> Tensor:
        y: Tensor = self.base(ids) + nn.functional.embedding(ids, self.a.t()) @ self.b.t()
        return y


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Random ids of the small vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, shape, generator=generator)


def gradients(model: LanguageModel) -> dict[str, Tensor]:
    """The gradient of each trained parameter by name, taken off the model."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            found[name] = parameter.grad
            parameter.grad = None
    return found
