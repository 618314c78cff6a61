"""A stream is generation as it goes, and can be left at any time."""

import gc
from typing import Any

import pytest
import torch
from generation_models import build, tempered

from hyena.data import load_tokenizer
from hyena.generation import Event, generate, stream
from hyena.model import LanguageModel

BYTES = load_tokenizer("bytes")
TEXTS = {"prompts": ["We the", "", "A third"], "tokenizer": BYTES, "max_new_tokens": 12}


def of_each(events: list[Event], count: int) -> list[list[Event]]:
    return [[event for event in events if event.index == i] for i in range(count)]


def test_the_events_laid_end_to_end_are_the_generations() -> None:
    model = tempered(build(), 0.05)
    options = {**TEXTS, "stop": ["t", "\x7f"], "stop_tokens": range(128, 256, 9), "alternatives": 2}
    with stream(model, **options) as running:
        events = list(running)
    expected = generate(model, **options)
    assert running.generations == expected
    assert {g.finished for g in expected} >= {"stop"}
    for own, result in zip(of_each(events, 3), expected, strict=True):
        kept = own[: len(result.tokens)]  # one more if a stop token came
        assert len(own) - len(kept) <= 1
        assert [event.token for event in kept] == result.tokens
        assert [event.logprob for event in kept] == result.logprobs
        assert [event.alternatives for event in kept] == result.alternatives
        assert "".join(event.text for event in own) == result.text
        assert [event.finished for event in own] == [None] * (len(own) - 1) + [result.finished]


def test_nothing_is_computed_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, step, prefill = [], LanguageModel.step, LanguageModel.prefill

    def counted(name: str, method: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return method(*args, **options)

        return call

    monkeypatch.setattr(LanguageModel, "step", counted("step", step))
    monkeypatch.setattr(LanguageModel, "prefill", counted("prefill", prefill))
    running = stream(build(), [[256]], max_new_tokens=5)
    assert calls == []
    next(running)
    assert calls == ["prefill"]
    next(running)
    assert calls == ["prefill", "step"]
    running.close()
    assert list(running) == []
    assert calls == ["prefill", "step"]


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="max_new_tokens: expected at least 1"):
        stream(build(), [[1]], max_new_tokens=0)


@pytest.mark.parametrize("end", ["break", "close", "with", "exhausted", "unused"])
def test_the_mode_of_the_model_is_restored_when_the_stream_ends(end: str) -> None:
    gc.disable()  # the end of the last reference has to do
    try:
        model = build().train()
        options = {"max_new_tokens": 4}
        if end == "break":
            for event in stream(model, [[256]], **options):
                assert not model.training
                assert event.finished is None
                break
        elif end == "with":
            with stream(model, [[256]], **options) as running:
                next(running)
                assert not model.training
        else:
            running = stream(model, [[256]], **options)
            if end == "exhausted":
                list(running)
            elif end == "close":
                next(running)
            running.close()
        assert model.training
    finally:
        gc.enable()


def test_a_closed_stream_keeps_what_there_was() -> None:
    model, options = build(), {**TEXTS, "seed": 2}
    whole = generate(model, **options)
    running = stream(model, **options)
    for _ in range(7):
        next(running)
    before = running.generations
    assert [len(g.tokens) for g in before] == [3, 2, 2]
    assert {g.finished for g in before} == {None}
    running.close()
    after = running.generations
    assert {g.finished for g in after} == {"cancelled"}
    for i, count in enumerate((3, 2, 2)):
        assert after[i].tokens == whole[i].tokens[:count]
        assert after[i].text == BYTES.decode(after[i].tokens)


def test_one_sequence_can_be_cancelled_and_the_others_go_on_as_they_would() -> None:
    model = build()
    whole = generate(model, **TEXTS)
    with stream(model, **TEXTS) as running:
        events = []
        for event in running:
            events.append(event)
            if len(events) == 4:  # the first of the second round: that of the third is not taken
                running.cancel(2)
    own = of_each(events, 3)
    assert [len(of_one) for of_one in own] == [12, 12, 2]
    last = own[2][-1]
    assert (last.token, last.logprob, last.finished) == (None, None, "cancelled")
    found = running.generations
    assert found[:2] == whole[:2]
    assert found[2].tokens == whole[2].tokens[:1]
    assert found[2].finished == "cancelled"
    running.cancel(0)  # too late, and no matter
    assert running.generations == found
    with pytest.raises(IndexError):
        running.cancel(3)


def test_a_sequence_can_be_cancelled_before_it_begins() -> None:
    running = stream(build(), [[256], [256, 1]], max_new_tokens=3)
    running.cancel(0)
    (first, *others) = list(running)
    assert (first.index, first.token, first.finished) == (0, None, "cancelled")
    assert [event.index for event in others] == [1, 1, 1]


def test_a_failure_leaves_the_model_and_the_results_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, step, left = build().train(), LanguageModel.step, [3]

    def failing(self: LanguageModel, ids: torch.Tensor, state: Any) -> Any:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return step(self, ids, state)

    monkeypatch.setattr(LanguageModel, "step", failing)
    running = stream(model, [[256]], max_new_tokens=9)
    with pytest.raises(KeyboardInterrupt):
        list(running)
    assert model.training
    (result,) = running.generations
    assert (len(result.tokens), result.finished) == (3, "cancelled")


def test_a_step_of_the_reader_may_have_gradients() -> None:
    model = build()
    for _ in stream(model, [[256]], max_new_tokens=2):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        assert model(torch.tensor([[1]])).requires_grad
