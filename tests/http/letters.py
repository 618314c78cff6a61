"""A small model whose likeliest tokens are letters."""

import torch
from generation_models import build

from hyena.model import LanguageModel


def letters_model(letters: range = range(32, 127), vocab_size: int = 257) -> LanguageModel:
    """A model with a context of 128, in float64: the ids that it writes are those of letters."""
    model = build(max_length=128, vocab_size=vocab_size)
    with torch.no_grad():  # one direction of the width says whether an id is one of them
        model.embedding.weight[:, 0] = -1
        model.embedding.weight[letters.start : letters.stop, 0] = 1
        model.norm.weight[0] = 0
        model.norm.bias[0] = 30
    return model
