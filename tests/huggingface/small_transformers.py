"""Small Hyena models of transformers whose every part has a say in the logits."""

from typing import Any

import torch
from torch import Tensor

import hyena
from hyena.huggingface import HyenaForCausalLM

VOCABULARY = 29
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "width": 12,
    "layers": 2,
    "mlp_width": 20,
    "max_length": 48,
    "head_dim": 4,
    "filter": hyena.FilterConfig(emb_dim=5, width=6, sine_freq=3.0),
}
_KEPT = ".sine_freq", ".encoding", ".decay", "poles"  # of others filters are noise, or grow


def language_model(
    mixers: str = "hyena", dtype: torch.dtype = torch.float32, **changes: Any
) -> hyena.LanguageModel:
    """Two blocks of width 12 over 29 tokens, in evaluation mode. The weights are much larger than
    initial ones, or a block would add so little that a wrong one hardly shows. The same each
    time."""
    generator = torch.Generator().manual_seed(5)
    config = hyena.ModelConfig(**{**SIZES, "mixers": mixers, **changes})
    model = hyena.LanguageModel(config, generator=generator, dtype=dtype)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith(_KEPT):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.3 * noise.to(dtype))
    return model.eval()


def small(mixers: str = "hyena", **changes: Any) -> HyenaForCausalLM:
    """`language_model` as a model of transformers."""
    return HyenaForCausalLM.from_language_model(language_model(mixers, **changes))


def tokens(*shape: int, seed: int = 0) -> Tensor:
    """Random ids of the small vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, shape, generator=generator)


def padded(rows: list[Tensor], side: str) -> tuple[Tensor, Tensor]:
    """Rows of ids as a batch with padding on a side, and its attention mask of int64."""
    longest = max(map(len, rows))
    ids, mask = torch.full((len(rows), longest), 3), torch.zeros(len(rows), longest, dtype=int)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), None) if side == "left" else slice(0, len(row))
        ids[i, place], mask[i, place] = row, 1
    return ids, mask
