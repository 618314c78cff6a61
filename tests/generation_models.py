"""Small models whose choices differ from token to token, and their continuations by definition."""

from typing import Any

import torch

from hyena.model import FilterConfig, LanguageModel, ModelConfig


def build(mixers: str = "hyena", *, seed: int = 0, **settings: Any) -> LanguageModel:
    """A model of three layers in float64, far from uniform."""
    values: dict[str, Any] = {
        "width": 24,
        "layers": 3,
        "mlp_width": 32,
        "head_dim": 8,
        "max_length": 64,
        "mixers": mixers,
        "filter": FilterConfig(emb_dim=5, width=8),
    }
    config = ModelConfig(**{**values, **settings})
    model = LanguageModel(config, generator=torch.Generator().manual_seed(seed)).double()
    for name, parameter in model.named_parameters():
        if name == "embedding.weight" or "proj" in name:
            parameter.data.mul_(20)
    return model.eval()


def tempered(model: LanguageModel, factor: float) -> LanguageModel:
    """The model with its logits times ``factor``, so that less likely tokens come up as well."""
    model.norm.weight.data.mul_(factor)
    model.norm.bias.data.mul_(factor)
    return model


@torch.no_grad()
def next_logprobs(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    """Log-probabilities of the token after ``ids`` by the full forward: (V,)."""
    return model(torch.tensor([ids]))[0, -1].log_softmax(-1)


def greedy_by_full_forward(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(next_logprobs(model, ids).argmax()))
    return ids[len(prompt) :]
