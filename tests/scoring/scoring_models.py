"""Small models far from uniform, and what is scored and embedded by definition."""

from collections.abc import Sequence
from typing import Any

import torch

from hyena.data import BytesTokenizer
from hyena.model import FilterConfig, LanguageModel, ModelConfig

BYTES = BytesTokenizer()
END = BYTES.end_of_text


def build(
    mixers: str = "hyena", *, dtype: torch.dtype = torch.float64, **settings: Any
) -> LanguageModel:
    """A model of two layers over bytes."""
    values: dict[str, Any] = {
        "width": 16,
        "layers": 2,
        "mlp_width": 24,
        "head_dim": 8,
        "max_length": 64,
        "mixers": mixers,
        "filter": FilterConfig(emb_dim=5, width=8),
    }
    config = ModelConfig(**{**values, **settings})
    generator = torch.Generator().manual_seed(0)
    model = LanguageModel(config, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "embedding.weight" or "proj" in name:
                parameter.mul_(20)
    return model.to(dtype).eval()


@torch.no_grad()
def logprobs(model: LanguageModel, tokens: Sequence[int]) -> list[float]:
    """Of each token but the first the logarithm of its probability after those before it, by the
    logits of the tokens alone."""
    table = model(torch.tensor([tokens[:-1]]))[0].double().log_softmax(-1)
    return [float(table[i, token]) for i, token in enumerate(tokens[1:])]


def of_text(model: LanguageModel, text: str, *, begin: bool = True) -> list[float]:
    """The same of a text's tokens, of all of them if the end of text is put before."""
    return logprobs(model, [*([END] if begin else []), *text.encode()])
