"""A trained model writes thousands of tokens that are those of its full forward pass.

The model in ``trained`` has 12,612 parameters: a Hyena layer of order 3 and one of attention, of
width 24 over the end of text, a … z and the space. It learned from 700 batches of 8 · 256 letters
of the bundled speeches, at 1.86 nats a letter in the last, and writes words that are nearly ones.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hyena
from hyena.generation import Generation, generate
from hyena.model import LanguageModel

TRAINED = Path(__file__).parent / "trained"
WE, THE = [23, 5, 27], [0, 20, 8, 5, 27, 19, 20, 1, 20, 5]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return hyena.load(TRAINED).double()


@torch.no_grad()
def by_full_forward(model: LanguageModel, prompt: list[int], result: Generation) -> Tensor:
    """Log-probabilities (n, V) in the places of the generated tokens, all in one pass."""
    ids = torch.tensor([[*prompt, *result.tokens]])
    return model(ids)[0, len(prompt) - 1 : -1].log_softmax(-1)


def check_logprobs(model: LanguageModel, prompt: list[int], result: Generation) -> None:
    own = by_full_forward(model, prompt, result)
    expected = own.gather(-1, torch.tensor(result.tokens)[:, None])[:, 0]
    found = torch.tensor(result.logprobs, dtype=torch.float64)
    assert float((found - expected).abs().max()) < 1e-9


def test_two_thousand_greedy_tokens(model: LanguageModel) -> None:
    results = generate(model, [WE, THE], max_new_tokens=2000, temperature=0)
    for prompt, result in zip([WE, THE], results, strict=True):
        assert len(result.tokens) == 2000
        # If each is the likeliest after those before it, all are those of the definition.
        expected = by_full_forward(model, prompt, result).argmax(-1)
        assert result.tokens == expected.tolist()
        check_logprobs(model, prompt, result)
    assert len(set(results[0].tokens)) > 8


def test_drawn_tokens_beside_others_that_end_earlier(model: LanguageModel) -> None:
    prompts = [WE, THE, [0], [10, 21, 19, 20]]
    options: dict[str, Any] = {
        "max_new_tokens": 600,
        "min_p": 0.02,
        "repetition_penalty": 1.02,
        "stop_tokens": 10,  # j
    }
    together = generate(model, prompts, seed=2, **options)
    lengths = [len(result.tokens) for result in together]
    assert len(set(lengths)) > 2
    for i, (prompt, result) in enumerate(zip(prompts, together, strict=True)):
        check_logprobs(model, prompt, result)
        assert len(set(result.tokens)) > 8
        if len(result.tokens) == min(lengths):
            assert generate(model, [prompt], seed=2 + i, **options)[0].tokens == result.tokens
