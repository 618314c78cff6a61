"""`generate` of transformers on the exact state of a Hyena model."""

import copy
import re
from typing import Any
from unittest.mock import patch

import pytest
import torch
from small_transformers import padded, small, tokens
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

import hyena
from hyena.huggingface import HyenaCache, HyenaForCausalLM
from hyena.huggingface.cache import CACHE
from hyena.model import language_model as of_model
from hyena.ops.native.library import isa

MIXERS = ["hyena", "attention", "rwkv", "hyena,attention"]


def greedy(model: HyenaForCausalLM, ids: Tensor, count: int, **options: Any) -> Tensor:
    """The new tokens (B, count)."""
    found = model.generate(ids, max_new_tokens=count, do_sample=False, **options)
    return found[:, ids.shape[1] :]


def ours(model: HyenaForCausalLM, prompts: list[Tensor], count: int) -> list[list[int]]:
    """The same by `hyena.generation.generate`."""
    found = hyena.generation.generate(
        model.model, [p.tolist() for p in prompts], max_new_tokens=count, temperature=0
    )
    return [one.tokens for one in found]


@pytest.mark.parametrize("mixers", MIXERS)
def test_greedy_tokens_are_those_of_hyena(mixers: str) -> None:
    for order in (2, 3):
        model = small(mixers, order=order)
        ids = tokens(2, 9)
        assert greedy(model, ids, 20).tolist() == ours(model, list(ids), 20)


@pytest.mark.parametrize("mixers", MIXERS)
def test_prompts_padded_on_the_left_go_on_as_alone(mixers: str) -> None:
    model = small(mixers)
    prompts = [tokens(n, seed=n) for n in (9, 4, 1)]
    for dtype in (torch.int64, torch.bool):
        ids, mask = padded(prompts, "left")
        found = greedy(model, ids, 20, attention_mask=mask.to(dtype))
        assert found.tolist() == [ours(model, [prompt], 20)[0] for prompt in prompts]


def test_a_token_is_one_step_through_all_blocks_at_once(model: HyenaForCausalLM) -> None:
    ids, mask = padded([tokens(9), tokens(4)], "left")
    at_once, made = of_model.at_once, []

    def noted(*arguments: Any) -> Any:
        found = at_once(*arguments)
        made.append(found is not None)
        return found

    with patch.object(of_model, "at_once", noted):
        greedy(model, ids, 7)
        greedy(model, ids, 7, attention_mask=mask)
    assert len(made) == 12  # the first token is that of the prompt
    assert all(made) or isa() == "none"


@torch.no_grad()
@pytest.mark.parametrize("mixers", MIXERS)
def test_a_cache_goes_on_as_one_pass_would(mixers: str) -> None:
    model, ids = small(mixers), tokens(2, 20)
    whole = model(ids).logits
    cache = HyenaCache()
    for start, stop in ((0, 7), (7, 8), (8, 9), (9, 15), (15, 20)):
        assert cache.get_seq_length() == start
        assert cache.get_mask_sizes(stop - start, 0) == (stop, 0)
        options = {} if start == 8 else {"attention_mask": torch.ones(2, stop)}
        output = model(ids[:, start:stop], past_key_values=cache, **options)
        assert output[CACHE] is cache
        torch.testing.assert_close(output.logits, whole[:, start:stop], atol=2e-5, rtol=1e-5)
    cache.reset()
    assert (len(cache), cache.batch_size, cache.has_previous_state()) == (0, -1, False)
    torch.testing.assert_close(model(ids, past_key_values=cache).logits, whole)


@torch.no_grad()
def test_one_more_token_is_checked_as_many(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 5)
    for given, message in (
        ({"inputs_embeds": torch.zeros(2, 1, 12)}, "or inputs_embeds, got both of them"),
        ({"attention_mask": torch.ones(2, 4)}, r"\(2, 5\), 1 at real tokens, got \(2, 4\)"),
        ({"attention_mask": torch.full((2, 5), 2.0)}, "0 at padding, got 2.0"),
    ):
        cache = model(ids[:, :4], use_cache=True)[CACHE]
        with pytest.raises(ValueError, match=message):
            model(ids[:, 4:], past_key_values=cache, **given)
        assert cache.get_seq_length() == 4
    step = model(ids[:, 4:], past_key_values=cache, attention_mask=torch.ones(2, 5)).logits
    torch.testing.assert_close(step, model(ids).logits[:, 4:])


@torch.no_grad()
def test_a_cache_is_copied_and_its_rows_chosen(model: HyenaForCausalLM) -> None:
    ids = tokens(3, 12)
    cache = model(ids[:, :9], use_cache=True)[CACHE]
    other = copy.deepcopy(cache)
    whole = model(ids).logits
    model(ids[:, 9:10], past_key_values=cache)
    other.reorder_cache(torch.tensor([2, 0, 2]))
    other.batch_repeat_interleave(2)
    other.batch_select_indices(torch.tensor([0, 3]))
    assert (other.batch_size, other.get_seq_length()) == (2, 9)
    found = model(ids[[2, 0], 9:10], past_key_values=other).logits
    torch.testing.assert_close(found, whole[[2, 0], 9:10])
    found = model(ids[:, 10:11], past_key_values=cache).logits
    torch.testing.assert_close(found, whole[:, 10:11])


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 4, "do_sample": False, "num_return_sequences": 3, "length_penalty": 0.5},
        {"num_beams": 3, "do_sample": True},
        {"do_sample": True, "top_k": 5, "temperature": 0.7},
        {"do_sample": True, "top_p": 0.8, "num_return_sequences": 2},
        {"do_sample": False, "repetition_penalty": 1.3},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_way_finds_what_it_would_without_a_cache(
    options: dict[str, Any], mixers: str
) -> None:
    model = small(mixers)
    ids, mask = padded([tokens(9), tokens(5)], "left")
    found = []
    for use_cache in (True, False):
        torch.manual_seed(3)
        found.append(
            model.generate(
                ids,
                attention_mask=mask,
                max_new_tokens=12,
                eos_token_id=7,
                pad_token_id=0,
                use_cache=use_cache,
                **options,
            ).tolist()
        )
    assert found[0] == found[1]


def test_beams_are_those_of_hyena(model: HyenaForCausalLM) -> None:
    ids = tokens(1, 9)
    options = {"num_beams": 4, "num_return_sequences": 4, "do_sample": False}
    theirs = model.generate(
        ids, max_new_tokens=8, return_dict_in_generate=True, output_scores=True, **options
    )
    beams = hyena.generation.beam_search(model.model, ids.tolist(), max_new_tokens=8, beam_width=4)[
        0
    ]
    assert theirs.sequences[:, 9:].tolist() == [beam.tokens for beam in beams]
    scores = torch.tensor([beam.score for beam in beams])
    torch.testing.assert_close(theirs.sequences_scores, scores, atol=1e-4, rtol=1e-4)


def test_a_returned_cache_goes_on_in_the_next_call(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    whole = greedy(model, ids, 20).tolist()
    first = model.generate(ids, max_new_tokens=5, do_sample=False, return_dict_in_generate=True)
    cache = first[CACHE]
    assert cache.get_seq_length() == 9 + 4  # the last token has not been read
    for full in (True, False):
        given = copy.deepcopy(cache)
        following = first.sequences if full else first.sequences[:, -1:]
        mask = torch.ones_like(first.sequences)
        found = model.generate(
            following, attention_mask=mask, max_new_tokens=15, do_sample=False, **{CACHE: given}
        )
        assert found[:, following.shape[1] :].tolist() == [row[5:] for row in whole]


def test_a_cache_of_generate_has_its_size_from_the_prompt_on(model: HyenaForCausalLM) -> None:
    ids, seen = tokens(1, 9), []
    forward = HyenaForCausalLM.forward

    def noted(self: Any, *arguments: Any, **options: Any) -> Any:
        output = forward(self, *arguments, **options)
        seen.append(output[CACHE])
        return output

    with patch.object(HyenaForCausalLM, "forward", noted):
        greedy(model, ids, 20)
    long = seen[0].state.layers[0].long
    assert (long.planned, long.keeps_inputs, long.position) == (19, False, 19)
    assert all(cache is seen[0] for cache in seen)


def test_a_prompt_in_chunks_is_one_prompt(model: HyenaForCausalLM) -> None:
    ids, mask = padded([tokens(13), tokens(11)], "left")
    whole = greedy(model, ids, 9, attention_mask=mask)
    assert torch.equal(greedy(model, ids, 9, attention_mask=mask, prefill_chunk_size=4), whole)


def test_embeddings_are_a_prompt_too(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    embedded = model.get_input_embeddings()(ids)
    found = model.generate(inputs_embeds=embedded, max_new_tokens=9, do_sample=False)
    assert torch.equal(found, greedy(model, ids, 9))


def test_scores_and_hidden_states_are_those_of_one_pass(model: HyenaForCausalLM) -> None:
    ids = tokens(2, 9)
    found = model.generate(
        ids,
        max_new_tokens=6,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        output_hidden_states=True,
    )
    with torch.no_grad():
        whole = model(found.sequences[:, :-1], output_hidden_states=True)
    logits = torch.stack(found.logits, dim=1)
    torch.testing.assert_close(logits, whole.logits[:, 8:], atol=2e-5, rtol=1e-5)
    for layer, expected in enumerate(whole.hidden_states):
        steps = torch.cat([states[layer] for states in found.hidden_states], dim=1)
        torch.testing.assert_close(steps, expected, atol=2e-5, rtol=1e-5)


def test_a_streamer_gets_each_token(model: HyenaForCausalLM) -> None:
    class Collected(BaseStreamer):
        def __init__(self) -> None:
            self.pieces: list[list[int]] = []
            self.ended = False

        def put(self, value: Tensor) -> None:
            self.pieces.append(value.flatten().tolist())

        def end(self) -> None:
            self.ended = True

    ids, streamer = tokens(1, 9), Collected()
    new = greedy(model, ids, 6, streamer=streamer)
    assert streamer.pieces == [ids[0].tolist(), *([token] for token in new[0].tolist())]
    assert streamer.ended


def test_what_generate_cannot_do_is_one_line(model: HyenaForCausalLM) -> None:
    ids = tokens(1, 9)
    for options, message in (
        ({"max_new_tokens": 41}, "a prompt of 9 tokens and 41 new do not fit max_length 48"),
        ({"prompt_lookup_num_tokens": 3}, "assisted generation is not supported with stateful"),
        ({"assistant_model": small()}, "assisted generation is not supported with stateful"),
        (
            {"cache_implementation": "static"},
            "generate: cache_implementation='static' was asked for, but a Hyena model has a state",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)) as problem:
            model.generate(ids, **{"max_new_tokens": 4, "do_sample": False, **options})
        assert "\n" not in str(problem.value)
    cache = model.generate(ids, max_new_tokens=2, return_dict_in_generate=True)[CACHE]
    later = torch.ones(1, 11)
    later[0, 10] = 0
    with torch.no_grad(), pytest.raises(ValueError, match="has padding among them; pad the first"):
        model(ids[:, :1], attention_mask=later, past_key_values=cache)
    with pytest.raises(ValueError, match="a state has no tokens that could be taken back"):
        cache.crop(-1)
    with pytest.raises(ValueError, match="generation records no gradients; call it"):
        model(ids[:, :1], past_key_values=cache)
