"""lm-evaluation-harness' own client of completions: what `hyena eval` finds, by HTTP."""

from collections.abc import Iterator
from typing import Any

import pytest
from asking import ask
from letters import letters_model
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from page_server import page_of

from hyena.data import load_tokenizer
from hyena.harness import HyenaLM
from hyena.model import LanguageModel

BYTES = load_tokenizer("bytes")
PAIRS = [("a world in", " a grain"), ("of sand", ","), ("", "and heaven in a wild flöwer")]


@pytest.fixture(scope="module")
def letters() -> LanguageModel:
    return letters_model()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with page_of(letters_model(), BYTES) as address:
        yield address


@pytest.fixture(scope="module")
def client(served: str) -> LocalCompletionsAPI:
    url = served + "v1/completions"
    return LocalCompletionsAPI(model="small", base_url=url, max_length=128, max_retries=1)


def requests_of(kind: Any, *arguments: tuple[Any, ...]) -> list[Instance]:
    return [Instance(kind, {}, each, i) for i, each in enumerate(arguments)]


def test_likelihoods_are_those_of_the_model(
    client: LocalCompletionsAPI, letters: LanguageModel
) -> None:
    # Its contexts begin without the end of text, unless they are empty.
    for begin, pairs in ((False, PAIRS[:2]), (True, PAIRS[2:])):
        asked = requests_of("loglikelihood", *pairs)
        ours = HyenaLM(letters, BYTES, begin=begin).loglikelihood(asked)
        theirs = client.loglikelihood(asked, disable_tqdm=True)
        for (found, greedy), (expected, expected_greedy) in zip(theirs, ours, strict=True):
            assert found == pytest.approx(expected, abs=1e-5)
            assert greedy == expected_greedy
    asked = requests_of("loglikelihood_rolling", *((text,) for _, text in PAIRS))
    ours = HyenaLM(letters, BYTES).loglikelihood_rolling(asked)
    found = client.loglikelihood_rolling(asked, disable_tqdm=True)
    assert found == pytest.approx(ours, abs=1e-5)


def test_texts_are_those_of_the_model(client: LocalCompletionsAPI, letters: LanguageModel) -> None:
    settings = {"until": ["e"], "max_gen_toks": 20, "temperature": 0}
    asked = requests_of("generate_until", *((context, dict(settings)) for context, _ in PAIRS[:2]))
    found = client.generate_until(asked, disable_tqdm=True)
    assert found == HyenaLM(letters, BYTES, begin=False).generate_until(asked)


def test_tokens_go_both_ways(served: str) -> None:
    text = "é<|endoftext|>"
    status, found = ask(served + "tokenize", {"prompt": text, "add_special_tokens": False})
    assert (status, found) == (
        200,
        {"tokens": list(text.encode()), "count": 15, "max_model_len": 128},
    )
    assert ask(served + "tokenize", {"prompt": "a"})[1]["tokens"] == [256, 97]
    assert ask(served + "tokenize", {"prompt": "<|endoftext|>"})[1]["tokens"] == [256]
    assert ask(served + "detokenize", {"tokens": list(text.encode())}) == (200, {"prompt": text})
    status, found = ask(served + "detokenize", {"tokens": [300]})
    assert (status, found["error"]["param"]) == (400, "tokens")
