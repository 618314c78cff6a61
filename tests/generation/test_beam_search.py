"""Beam search against its definition, and against a search of everything."""

import functools
import itertools
import math
from typing import Any

import pytest
import torch
from generation_models import build, greedy_by_full_forward, next_logprobs, tempered
from hypothesis import given
from hypothesis import strategies as st

from hyena.data import load_tokenizer
from hyena.generation import Beam, beam_search
from hyena.generation.beam_search import placed
from hyena.model import LanguageModel, ModelState

BYTES = load_tokenizer("bytes")


class Letters:
    """A tokenizer of five tokens: an end of text, a, b, ab and é cut in the middle."""

    end_of_text = 0
    words = (b"", b"a", b"b", b"ab", "é".encode()[:1])

    def encode(self, text: str) -> Any:
        return torch.tensor([b" ab".index(byte) for byte in text.encode()]).numpy()

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.words[i] for i in ids).decode(errors="replace")


def ended(tokens: list[int], stop: str | None, longest: int) -> tuple[list[int], str, str] | None:
    """The tokens and text returned and why, if the drawn tokens end a sequence."""
    if tokens[-1] == 0:
        return tokens[:-1], Letters().decode(tokens[:-1]), "end of text"
    text = Letters().decode(tokens)
    if stop is not None and stop in text:
        return tokens, text.split(stop)[0], "stop"
    return (tokens, Letters().decode(tokens), "length") if len(tokens) == longest else None


@functools.cache  # one for all tests, as are its distributions
def small(mixers: str) -> LanguageModel:
    return tempered(build(mixers, vocab_size=5, layers=2), 0.02)


@functools.cache
def known(model: LanguageModel, *ids: int) -> list[float]:
    return next_logprobs(model, list(ids)).tolist()


def beam(model: LanguageModel, prompt: list[int], drawn: list[int], ending: Any, penalty: float):
    each = [known(model, *prompt, *drawn[:n])[token] for n, token in enumerate(drawn)]
    kept = len(ending[0])
    return Beam(*ending, sum(each), sum(each) / len(drawn) ** penalty, each[:kept], [[]] * kept)


def everything(model: LanguageModel, stop: str | None, longest: int, penalty: float) -> list[Beam]:
    """All continuations of the empty text there are, the best first."""
    found = []
    for length in range(1, longest + 1):
        for drawn in map(list, itertools.product(range(5), repeat=length)):
            shorter = (ended(drawn[:n], stop, longest) for n in range(1, length))
            ending = ended(drawn, stop, longest)
            if ending is not None and not any(shorter):
                found.append(beam(model, [0], drawn, ending, penalty))
    return sorted(found, key=lambda b: -b.score)


def by_definition(
    model: LanguageModel,
    prompt: list[int],
    width: int,
    stop: str | None,
    longest: int,
    penalty: float,
) -> list[Beam]:
    """The search with a full forward for every beam, which never stops early."""
    live, done = [([], 0.0)], []
    for _ in range(longest):
        candidates = [
            ([*drawn, token], logprob + value)
            for drawn, logprob in live
            for token, value in enumerate(known(model, *prompt, *drawn))
        ]
        candidates.sort(key=lambda c: -c[1])
        live = []
        for rank, (drawn, logprob) in enumerate(candidates):
            ending = ended(drawn, stop, longest)
            if ending is not None and ending[2] != "length":
                done += [beam(model, prompt, drawn, ending, penalty)] if rank < width else []
            elif len(live) < width:
                live.append((drawn, logprob))
    done += [beam(model, prompt, drawn, ended(drawn, stop, longest), penalty) for drawn, _ in live]
    return sorted(done, key=lambda b: -b.score)[:width]


def check_same(found: list[Beam], expected: list[Beam]) -> None:
    assert [(b.tokens, b.text, b.finished) for b in found] == [
        (b.tokens, b.text, b.finished) for b in expected
    ]
    for a, b in zip(found, expected, strict=True):
        assert math.isclose(a.logprob, b.logprob, rel_tol=1e-9)
        assert math.isclose(a.score, b.score, rel_tol=1e-9)
        assert a.logprobs == pytest.approx(b.logprobs, rel=1e-9)
        assert a.alternatives == b.alternatives


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
@pytest.mark.parametrize("stop", [None, "ba"])
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.0])
def test_a_beam_of_everything_finds_the_best_of_everything(
    mixers: str, stop: str | None, penalty: float
) -> None:
    model = small(mixers)
    (found,) = beam_search(
        model,
        "",
        tokenizer=Letters(),
        max_new_tokens=3,
        beam_width=200,
        length_penalty=penalty,
        stop=() if stop is None else stop,
    )
    expected = everything(model, stop, 3, penalty)
    assert len(expected) == {None: 1 + 4 + 16 * 5, "ba": 1 + 4 + 4 + 12 * 5}[stop]
    check_same(found, expected)


@pytest.mark.parametrize("stop", [None, "ba"])
@pytest.mark.parametrize("penalty", [0.0, 0.7, 1.5])
@pytest.mark.parametrize("width", [1, 2, 3, 7])
def test_prompts_of_different_lengths_are_searched_as_defined(
    width: int, penalty: float, stop: str | None
) -> None:
    model = small("hyena,attention")
    prompts = [[0, 1], [0, 2, 1, 1, 3], [0]]
    found = beam_search(
        model,
        prompts,
        tokenizer=Letters(),
        max_new_tokens=5,
        beam_width=width,
        length_penalty=penalty,
        stop=[] if stop is None else [stop, "never"],
    )
    for prompt, beams in zip(prompts, found, strict=True):
        check_same(beams, by_definition(model, prompt, width, stop, 5, penalty))


def test_one_beam_is_greedy() -> None:
    model = build()
    ((found,),) = beam_search(model, [[256, 3]], max_new_tokens=20, beam_width=1)
    assert found.tokens == greedy_by_full_forward(model, [256, 3], 20)
    assert (found.text, found.finished) == (None, "length")
    assert math.isclose(found.score, found.logprob / 20)


def test_the_likeliest_tokens_beside_each_of_a_beam() -> None:
    model = tempered(build(), 0.02)
    options = {"max_new_tokens": 8, "beam_width": 3, "stop_tokens": range(0, 250, 3)}
    ((best, *_),) = plain = beam_search(model, [[256, 3]], **options)
    found = beam_search(model, [[256, 3]], alternatives=2, **options)
    assert [b.tokens for b in found[0]] == [b.tokens for b in plain[0]]
    assert best.alternatives == [[]] * len(best.tokens)
    for one in found[0]:
        assert len(one.logprobs) == len(one.alternatives) == len(one.tokens)
        for n, alternatives in enumerate(one.alternatives):
            own = next_logprobs(model, [256, 3, *one.tokens[:n]])
            assert math.isclose(one.logprobs[n], own[one.tokens[n]], rel_tol=1e-9)
            assert [token for token, _ in alternatives] == own.topk(2).indices.tolist()


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), max_size=3))
def test_as_many_beams_as_can_stay_in_their_rows(parents: list[list[int]]) -> None:
    rows, kept = placed(parents)
    assert [len(own) for own in rows] == [len(own) for own in parents]
    flat = [row for own in rows for row in own]
    assert sorted(flat) == list(range(len(kept)))  # a row each
    assert [kept[row] for row in flat] == [parent for own in parents for parent in own]
    could_stay = {parent for own in parents for parent in own if parent < len(kept)}
    assert {row for row, parent in enumerate(kept) if row == parent} == could_stay


def test_beams_that_only_change_places_copy_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    copied, select = [], ModelState.select

    def counting(self: ModelState, rows: Any) -> ModelState:
        copied.append(rows)
        return select(self, rows)

    monkeypatch.setattr(ModelState, "select", counting)
    model = tempered(build("hyena,attention"), 0.02)
    beam_search(model, [[256, 3]], max_new_tokens=40, beam_width=2)
    assert len(copied) < 30
    assert not any(sorted(rows) == list(range(2)) for rows in copied)


def test_more_beams_find_what_is_likelier() -> None:
    model = tempered(build(), 0.02)
    options = {"max_new_tokens": 6, "length_penalty": 0.0}
    best = [
        beam_search(model, [[256, 3]], beam_width=width, **options)[0][0].logprob
        for width in (1, 30)
    ]
    assert best[1] > best[0] + 1e-6


def test_the_search_ends_when_nothing_better_can_come(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    model.norm.bias.data += 30 * model.embedding.weight.data[256]  # almost sure to end at once
    calls, step = [], LanguageModel.step

    def counting(self: LanguageModel, ids: torch.Tensor, state: Any) -> Any:
        calls.append(len(ids))
        return step(self, ids, state)

    monkeypatch.setattr(LanguageModel, "step", counting)
    (found,) = beam_search(
        model, "", tokenizer=BYTES, max_new_tokens=50, beam_width=2, length_penalty=0.0
    )
    assert (found[0].tokens, found[0].text, found[0].finished) == ([], "", "end of text")
    assert len(calls) < 5


def test_a_stop_token_is_counted_and_not_returned() -> None:
    model = build(vocab_size=40)
    first, second = greedy_by_full_forward(model, [3], 2)
    ((found,),) = beam_search(model, [[3]], max_new_tokens=9, beam_width=1, stop_tokens=[second])
    assert (found.tokens, found.finished) == ([first], "stop") if first != second else ([], "stop")
    assert math.isclose(found.score, found.logprob / (1 + len(found.tokens)))


def test_the_mode_of_the_model_is_restored() -> None:
    model = build().train()
    beam_search(model, [[256]], max_new_tokens=2)
    assert model.training
    assert beam_search(model, []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width: expected at least 1, got 0"),
        ({"length_penalty": 10**19}, f"length_penalty: expected at most 20, got {10**19}"),
        ({"length_penalty": -1.0}, "length_penalty: expected at least 0, got -1"),
        ({"length_penalty": float("nan")}, "length_penalty: expected at least 0, got nan"),
        ({"max_new_tokens": 99}, "do not fit max_length 64"),
        ({"prompts": [[]]}, "a prompt has no tokens"),
        ({"stop": "x"}, "give the tokenizer too"),
    ],
)
def test_bad_arguments_are_one_clear_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beam_search(build(), **{"prompts": [[1]], **options})
