"""Small models over bytes, requests of lm_eval, and what its tasks are made of."""

from collections.abc import Iterable
from typing import Any

import torch
from lm_eval.api.instance import Instance

import hyena
from hyena.data import BytesTokenizer

BYTES = BytesTokenizer()
END = BYTES.end_of_text
TEXTS = ("We the people", "of the United States, in Order to form a more perfect Union", "ACGTTG")

# What a YAML file says of a task beside its name and data.
OF_TEXTS: dict[str, Any] = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "text",
    "metric_list": [
        {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
    ],
}
ACCURACY = [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]
OF_CHOICES: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": ACCURACY,
}
QUESTIONS = [
    {"question": "hot or", "choices": ["cold", "wet"], "answer": 0},
    {"question": "up or", "choices": ["red", "down", "far"], "answer": 1},
    {"question": "in or", "choices": ["out", "odd"], "answer": 0},
]


def build(**settings: Any) -> hyena.LanguageModel:
    """A model in float64, far from uniform."""
    values: dict[str, Any] = {"width": 16, "layers": 2, "mlp_width": 16, "max_length": 48}
    config = hyena.ModelConfig(**{**values, **settings})
    generator = torch.Generator().manual_seed(1)
    model = hyena.LanguageModel(config, generator=generator, dtype=torch.float64)
    model.embedding.weight.data.mul_(20)
    return model.eval()


@torch.no_grad()
def logprobs(model: hyena.LanguageModel, tokens: Iterable[int]) -> list[float]:
    """Of each token but the first the logarithm of its probability after those before it, by the
    logits of the tokens alone."""
    ids = list(tokens)
    table = model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    return [float(table[i, token]) for i, token in enumerate(ids[1:])]


def requests_of(*arguments: tuple[Any, ...]) -> list[Instance]:
    """Requests of a task called "t"."""
    return [Instance("loglikelihood", {}, a, 0, ("t", i, 1)) for i, a in enumerate(arguments)]
