"""Going on from a state is going on, as if it had never been interrupted."""

import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from generation_models import build, greedy_by_full_forward, next_logprobs, tempered

from hyena.data import load_tokenizer
from hyena.generation import SequenceState, generate, load_state, save_state, stream
from hyena.model import ModelState
from hyena.ops.stepping import online

BYTES = load_tokenizer("bytes")
GREEDY = {"temperature": 0, "return_state": True}


def check_stands_after(model: Any, state: SequenceState, tokens: list[int]) -> None:
    """The state has read the tokens, and its logits are those of the next."""
    assert list(state.tokens) == tokens
    assert state.logits is not None
    found = state.logits.log_softmax(-1)
    torch.testing.assert_close(found, next_logprobs(model, tokens), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mixers", ["hyena", "attention", "rwkv,hyena"])
def test_two_halves_are_the_whole(mixers: str) -> None:
    model, prompt = build(mixers), [256, 1, 2]
    whole = greedy_by_full_forward(model, prompt, 40)
    (first,) = generate(model, [prompt], max_new_tokens=15, **GREEDY)
    check_stands_after(model, first.state, prompt + whole[:15])
    (second,) = generate(model, [[]], max_new_tokens=25, state=first.state, **GREEDY)
    assert first.tokens + second.tokens == whole
    check_stands_after(model, second.state, prompt + whole)
    again = generate(model, [[]], max_new_tokens=25, state=first.state, temperature=0)
    assert again[0].tokens == second.tokens  # the first state is as it was


def test_a_conversation_goes_on_with_further_text() -> None:
    model = build("hyena,attention")
    (first,) = generate(model, "We", tokenizer=BYTES, max_new_tokens=10, **GREEDY)
    read = [256, *b"We", *first.tokens]
    options = {"tokenizer": BYTES, "max_new_tokens": 10}
    (second,) = generate(model, " and", state=first.state, **options, **GREEDY)
    assert second.tokens == greedy_by_full_forward(model, [*read, *b" and"], 10)
    check_stands_after(model, second.state, [*read, *b" and", *second.tokens])


def test_states_at_different_positions_go_on_side_by_side() -> None:
    model = tempered(build("hyena,attention"), 0.05)
    prompts = [[256, 3], [256, 9, 8, 7, 6], [256], [256, 4], [256, 5]]
    options = {"stop_tokens": range(0, 256, 9), "return_state": True}
    first = generate(model, prompts, max_new_tokens=12, seed=1, **options)
    assert len({state_length(g) for g in first}) > 1
    replies = [[1], [2, 3], [], [4], [5]]
    states = [g.state for g in first]
    second = generate(model, replies, max_new_tokens=12, seed=20, state=states, **options)
    for i, (before, reply, after) in enumerate(zip(first, replies, second, strict=True)):
        read = [*prompts[i], *before.tokens, *reply]
        check_stands_after(model, before.state, [*prompts[i], *before.tokens])
        (anew,) = generate(model, [read], max_new_tokens=12, seed=20 + i, **options)
        assert after.tokens == anew.tokens
        for a, b in zip(after.logprobs, anew.logprobs, strict=True):
            assert math.isclose(a, b, rel_tol=1e-9)
        check_stands_after(model, after.state, read + after.tokens)


@pytest.mark.parametrize("mixers", ["hyena", "attention", "rwkv"])
def test_states_at_one_position_after_prompts_of_other_lengths(mixers: str) -> None:
    model, prompts = build(mixers), [[1, 2, 3], [4, 5, 6, 7, 8]]
    whole = [greedy_by_full_forward(model, prompt, 17) for prompt in prompts]
    states = [
        generate(model, [prompt], max_new_tokens=new, **GREEDY)[0].state
        for prompt, new in zip(prompts, (7, 5), strict=True)
    ]
    for _ in range(2):  # the states stay as they are
        results = generate(model, [[], []], max_new_tokens=10, state=states, temperature=0)
        assert [r.tokens for r in results] == [whole[0][7:], whole[1][5:15]]


def state_length(generation: Any) -> int:
    return generation.state.model.length


def test_a_state_is_of_everything_returned_however_the_sequence_ended() -> None:
    model = build()
    options = {"tokenizer": BYTES, "max_new_tokens": 30, "seed": 3, "return_state": True}
    (free,) = generate(model, "We", **options)
    stop = next(c for c in free.text[3:] if c.isascii())
    read = [256, *b"We"]
    for ending in ({"stop": stop}, {"stop_tokens": list(stop.encode())}):
        (cut,) = generate(model, "We", **options, **ending)
        assert cut.finished == "stop"
        check_stands_after(model, cut.state, read + cut.tokens)
    with stream(model, "We", **options) as running:
        for n, _ in enumerate(running):
            if n == 4:
                running.cancel(0)
    (cancelled,) = running.generations
    assert cancelled.tokens == free.tokens[:5]
    check_stands_after(model, cancelled.state, read + cancelled.tokens)


def test_the_penalty_remembers_what_was_read_before() -> None:
    model = build(vocab_size=40)
    options = {"repetition_penalty": 1e9, **GREEDY}
    (whole,) = generate(model, [[3, 4]], max_new_tokens=30, **options)
    (first,) = generate(model, [[3, 4]], max_new_tokens=10, **options)
    (second,) = generate(model, [[]], max_new_tokens=20, state=first.state, **options)
    assert first.tokens + second.tokens == whole.tokens
    assert len(set(whole.tokens)) == 30


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
@torch.no_grad()
def test_a_state_may_be_handled_in_any_way(
    mixers: str, order: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "BLOCK", 4)  # so that there are blocks, tiles and plans anew
    model = build(mixers, order=order)
    ids = torch.randint(257, (3, 40), generator=torch.Generator().manual_seed(2))
    starts = torch.tensor([4, 0, 7])
    mask = torch.arange(10) >= starts[:, None]
    _, state = model.prefill(ids[:, :10], mask=mask, future=6, keep_inputs=True)
    rows = [0, 1, 2]

    def stored(state: ModelState) -> ModelState:
        save_state(state, tmp_path / "state")
        return load_state(tmp_path / "state")

    changes = {
        11: stored,
        13: ModelState.copy,
        14: lambda s: s.select([2, 0, 1]),
        18: stored,  # beyond what was planned for
        19: lambda s: ModelState.join([stored(s.select([i])) for i in (1, 0, 2)]),
        23: lambda s: s.to("cpu"),
        25: lambda s: pickle.loads(pickle.dumps(s)),
        30: lambda s: stored(ModelState.join([s.select([1, 2]), s.copy().select([0])])),
    }
    orders = {14: [2, 0, 1], 19: [1, 0, 2], 30: [1, 2, 0]}
    for t in range(10, 40):
        if t in changes:
            state = changes[t](state)
            rows = [rows[i] for i in orders.get(t, [0, 1, 2])]
        logits, state = model.step(ids[rows, t], state)
        if t in (10, 15, 17, 24, 39):
            for row, found in zip(rows, logits, strict=True):
                expected = model(ids[row : row + 1, starts[row] : t + 1])[0, -1]
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_a_saved_state_goes_on_from_further_tokens(tmp_path: Any) -> None:
    model = build("hyena,attention")
    (first,) = generate(model, [[256, 1]], max_new_tokens=9, **GREEDY)
    save_state(first.state.model, tmp_path / "state.safetensors")
    loaded = SequenceState(load_state(tmp_path / "state.safetensors"))
    (second,) = generate(model, [[7]], max_new_tokens=9, state=loaded, temperature=0)
    expected = greedy_by_full_forward(model, [256, 1, *first.tokens, 7], 9)
    assert second.tokens == expected
    with pytest.raises(ValueError, match="no logits to go on from: its prompt needs at least one"):
        generate(model, [[]], state=loaded)


def test_a_state_needs_room_for_one_token_more() -> None:
    model = build(max_length=16)
    options = {"max_new_tokens": 14, "temperature": 0}
    assert len(generate(model, [[1, 2, 3]], **options)[0].tokens) == 14
    with pytest.raises(ValueError, match="ask for at most 13 new tokens"):
        generate(model, [[1, 2, 3]], return_state=True, **options)
    (first,) = generate(model, [[1, 2, 3]], max_new_tokens=8, **GREEDY)
    with pytest.raises(ValueError, match="a prompt of 12 tokens and 6 new do not fit"):
        generate(model, [[1]], max_new_tokens=6, state=first.state)
    assert len(generate(model, [[1]], max_new_tokens=5, state=first.state)[0].tokens) == 5


def test_a_state_for_each_prompt() -> None:
    model = build()
    (first,) = generate(model, [[1]], max_new_tokens=2, **GREEDY)
    with pytest.raises(ValueError, match="state: expected one for each prompt, 2 in all, got 1"):
        generate(model, [[1], [2]], state=first.state)


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention,rwkv"])
def test_a_further_prompt_is_read_in_one_pass(mixers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(mixers)
    prefilled, stepped = [], []
    prefill, step = model.prefill, model.step

    def reading(ids: Any, **options: Any) -> Any:
        prefilled.append(tuple(ids.shape))
        return prefill(ids, **options)

    def stepping(ids: Any, state: ModelState) -> Any:
        stepped.append(len(ids))
        return step(ids, state)

    (first,) = generate(model, [[256, 1]], max_new_tokens=5, **GREEDY)
    monkeypatch.setattr(model, "prefill", reading)
    monkeypatch.setattr(model, "step", stepping)
    for return_state, steps in ((False, 3), (True, 4)):
        prefilled.clear(), stepped.clear()
        options = {"temperature": 0, "return_state": return_state}
        replies = [[7] * 20, [8] * 20]
        found = generate(
            model, replies, max_new_tokens=4, state=[first.state, first.state], **options
        )
        assert prefilled == [(2, 20)]
        assert len(stepped) == steps
        for reply, result in zip(replies, found, strict=True):
            read = [256, 1, *first.tokens, *reply]
            assert result.tokens == greedy_by_full_forward(model, read, 4)
            if return_state:
                check_stands_after(model, result.state, read + result.tokens)


@torch.no_grad()
def test_a_state_that_was_planned_for_goes_on_in_its_plan() -> None:
    model, ids = build("hyena,attention"), torch.randint(257, (1, 9))
    whole = greedy_by_full_forward(model, [*ids[0].tolist(), 7, 8], 5)
    for return_state in (False, True):
        state = SequenceState(model.prefill(ids, future=8)[1])
        options = {"temperature": 0, "state": state, "return_state": return_state}
        assert generate(model, [[7, 8]], max_new_tokens=5, **options)[0].tokens == whole
        with pytest.raises(ValueError, match="tokens that were planned for have come"):
            generate(model, [[7, 8]], max_new_tokens=9, **options)
        with pytest.raises(ValueError, match="keeps no inputs, and of its plan 8 tokens are left"):
            generate(model, [[7] * 9], max_new_tokens=1, **options)
