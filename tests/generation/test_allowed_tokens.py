"""Only allowed tokens are drawn, and biases are added to logits: both by definition."""

from typing import Any

import numpy as np
import pytest
import torch
from generation_models import build, next_logprobs
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_kinds import KINDS

from hyena.data import load_tokenizer
from hyena.generation import Sampling, beam_search, distribution, generate

BYTES = load_tokenizer("bytes")


@given(
    st.lists(st.floats(-4, 4, width=16), min_size=6, max_size=6),
    st.none() | st.sets(st.integers(0, 5), min_size=1),
    st.dictionaries(st.integers(0, 5), st.floats(-3, 3)),
    st.sampled_from([{}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.1}, {"temperature": 0.0}]),
)
def test_the_distribution_is_that_of_the_changed_logits(
    logits: list[float], allowed: set[int] | None, bias: dict[int, float], options: dict[str, Any]
) -> None:
    x = torch.tensor([logits, logits[::-1]], dtype=torch.float64)
    tokens = None if allowed is None else tuple(allowed)
    found = distribution(x, Sampling(**options, allowed_tokens=tokens, logit_bias=bias))
    kept = sorted(range(6) if allowed is None else allowed)
    changed = x.clone()
    for token, added in bias.items():
        changed[:, token] += added
    expected = torch.zeros_like(x)
    expected[:, kept] = distribution(changed[:, kept], Sampling(**options))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_a_penalty_comes_before_a_bias() -> None:
    x, seen = torch.tensor([[1.0, -1.0]]), torch.tensor([[True, True]])
    sampling = Sampling(repetition_penalty=2.0, logit_bias={0: 3.0, 1: 3.0})
    expected = torch.tensor([[0.5 + 3, -2.0 + 3]]).double().softmax(-1)
    torch.testing.assert_close(distribution(x, sampling, seen), expected)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_model_writes_allowed_letters_alone(temperature: float) -> None:
    options: dict[str, Any] = {"tokenizer": BYTES, "max_new_tokens": 30, "seed": 2}
    options["temperature"] = temperature
    found = generate(build(), ["AC", "GTT"], allowed_tokens="ACGT", **options)
    for one in found:
        assert one.text is not None
        assert len(one.text) == 30  # the end of text is not allowed
        assert {*one.text} <= set("ACGT")
    same = generate(build(), ["AC", "GTT"], allowed_tokens=[*b"TGCA"], **options)
    assert [one.tokens for one in same] == [one.tokens for one in found]


def test_log_probabilities_are_those_of_the_model_all_the_same() -> None:
    model = build()
    (one,) = generate(model, [[65]], max_new_tokens=3, allowed_tokens=[66, 67], logit_bias={66: 5})
    ids = [65]
    for token, logprob in zip(one.tokens, one.logprobs, strict=True):
        assert logprob == pytest.approx(float(next_logprobs(model, ids)[token]), rel=1e-9)
        ids.append(token)


def test_a_bias_makes_a_token_likelier_or_rules_it_out() -> None:
    options: dict[str, Any] = {"tokenizer": BYTES, "max_new_tokens": 20}
    (often,) = generate(build(), "x", logit_bias={"z": 1000.0}, **options)
    assert often.text == "z" * 20
    (ids,) = generate(build(), "x", logit_bias={122: 1000.0}, **options)
    assert ids.tokens == often.tokens
    (never,) = generate(build(), "x", logit_bias={"z": -1000.0, "y": 800}, **options)
    assert never.text == "y" * 20


def test_the_end_of_text_is_drawn_where_it_is_allowed() -> None:
    (one,) = generate(build(), [[65]], tokenizer=BYTES, max_new_tokens=50, allowed_tokens=[256])
    assert (one.finished, one.tokens) == ("end of text", [])


def test_numbers_may_be_of_numpy() -> None:
    sampling = Sampling(allowed_tokens=np.array([3, 1, 3]), logit_bias={np.int64(2): np.float32(1)})
    assert sampling == Sampling(allowed_tokens=(1, 3), logit_bias={2: 1.0})
    assert hash(Sampling()) == hash(Sampling())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"allowed_tokens": []}, "allowed_tokens: expected at least one token, got none"),
        ({"allowed_tokens": ""}, "allowed_tokens: expected at least one token, got none"),
        (
            {"allowed_tokens": [300]},
            "allowed_tokens: token id 300 is outside the vocabulary of 257",
        ),
        ({"allowed_tokens": [-1]}, "allowed_tokens: expected at least 0, got -1"),
        ({"allowed_tokens": [1.5]}, "allowed_tokens: expected a whole number, got 1.5"),
        ({"allowed_tokens": "é"}, "allowed_tokens: expected texts of one token each, got 'é' of 2"),
        ({"logit_bias": {300: 1}}, "logit_bias: token id 300 is outside the vocabulary of 257"),
        ({"logit_bias": {"ab": 1}}, "logit_bias: expected texts of one token each, got 'ab' of 2"),
        ({"logit_bias": {"": 1}}, "logit_bias: expected texts of one token each, got '' of 0"),
        ({"logit_bias": {1: float("inf")}}, "logit_bias: expected finite numbers, got {1: inf}"),
        ({"logit_bias": {1: "x"}}, "logit_bias: expected a number, got 'x'"),
        ({"logit_bias": [1]}, r"logit_bias: expected a number for each token, got \[1\]"),
        ({"logit_bias": {"A": 1, 65: 2}}, "logit_bias: token 65 was given twice"),
    ],
)
def test_what_is_no_token_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        generate(build(), "a", tokenizer=BYTES, max_new_tokens=1, **options)


@pytest.mark.parametrize("options", [{"allowed_tokens": "A"}, {"logit_bias": {"A": 1}}])
def test_texts_of_tokens_need_a_tokenizer(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"^{name}= speaks of text: give the tokenizer too, or"):
        generate(build(), [[1]], max_new_tokens=1, **options)


def test_letters_of_another_tokenizer_are_its_tokens() -> None:
    tokenizer = KINDS["k_mers"]
    model = build(vocab_size=tokenizer.vocab_size)
    (one,) = generate(
        model, [[3]], tokenizer=tokenizer, max_new_tokens=9, allowed_tokens="AC", seed=1
    )
    assert {*one.tokens} <= {int(tokenizer.encode(letter)[0]) for letter in "AC"}


def test_logits_of_a_smaller_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed_tokens: token id 5 is outside the vocabulary of"):
        distribution(torch.zeros(1, 5), Sampling(allowed_tokens=(5,)))


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("A", {"allowed_tokens": "ACg"}, "allowed_tokens: the tokenizer has no token for 'g'; is"),
        ("A", {"logit_bias": {"R": 1}}, "logit_bias: the tokenizer has no token for 'R'; is it in"),
        ("acgt", {}, "prompts: the tokenizer has no token for any letter of 'acgt'; are they in l"),
    ],
)
def test_letters_that_a_tokenizer_does_not_know_are_refused(
    prompt: str, options: dict[str, Any], message: str
) -> None:
    tokenizer = load_tokenizer("hyenadna")
    model = build(vocab_size=tokenizer.vocab_size)
    with pytest.raises(ValueError, match=f"^{message}"):
        generate(model, prompt, tokenizer=tokenizer, max_new_tokens=1, **options)
    options = {"tokenizer": tokenizer, "max_new_tokens": 1}
    others: list[Any] = [["", "A"], [[6]]]
    for known in others:
        generate(model, known, allowed_tokens="ACGT", **options)
    said = "^2 of 5 tokens are the one for unknown letters, the first 'r' in 'Ar'$"
    for continued in (generate, beam_search):
        with pytest.warns(UserWarning, match=said):
            continued(model, ["A", "Ar", "", "kA"], **options)
