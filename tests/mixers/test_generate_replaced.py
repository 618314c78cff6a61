"""GPT-2 with Hyena in place of attention generates as it would without a cache, or says why not."""

import copy
from typing import Any

import pytest
import torch
from encoders_with_hyena import refuses
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers_models import LENGTH, TOLERANCE, bert_decoder, gpt2, mask_of, tokens, with_hyena

CANNOT = "TransformersAttentionAdapter: cannot go on from this cache, since its tokens "
ENDS_IN_PADDING = (
    "end in padding; pad rows on the left, and read all of it at once with what follows"
)


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    return with_hyena(gpt2(), causal=True)


def generate(model: Any, ids: Tensor, **options: Any) -> Any:
    options = {"max_new_tokens": 6, "do_sample": False, **options}
    return model.generate(ids, return_dict_in_generate=True, output_logits=True, **options)


def assert_same(got: Any, expected: Any) -> None:
    assert torch.equal(got.sequences, expected.sequences)
    for a, b in zip(got.logits, expected.logits, strict=True):
        torch.testing.assert_close(a, b, **TOLERANCE)


@pytest.mark.parametrize("make", [gpt2, bert_decoder])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "num_return_sequences": 2},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True, "num_beams": 2},
    ],
    ids=str,
)
def test_with_a_cache_is_as_without(make: Any, options: dict[str, Any]) -> None:
    model, ids = with_hyena(make(), causal=True), tokens(2, 7)
    mask = mask_of([7, 4], 7, "left")
    both = []
    for cached in (True, False):
        torch.manual_seed(1)
        both.append(generate(model, ids, attention_mask=mask, use_cache=cached, **options))
    assert_same(*both)


def test_rows_padded_on_the_left_are_as_each_alone(model: Any) -> None:
    ids, mask = tokens(3, 9), mask_of([9, 4, 1], 9, "left")
    together = generate(model, ids, attention_mask=mask)
    for i, real in enumerate(mask.bool()):
        alone = generate(model, ids[i : i + 1, real])
        assert torch.equal(together.sequences[i, 9:], alone.sequences[0, int(real.sum()) :])
        for a, b in zip(together.logits, alone.logits, strict=True):
            torch.testing.assert_close(a[i], b[0], **TOLERANCE)


def test_a_cache_goes_on_by_blocks_and_steps(model: Any) -> None:
    ids = tokens(2, 13)
    with torch.no_grad():
        whole = model(ids, use_cache=False).logits
        cache, got = DynamicCache(), []
        for part in ids.split([5, 1, 4, 1, 2], dim=1):
            got.append(model(part, cache=cache).logits)
            assert cache.get_seq_length() == sum(y.shape[1] for y in got)
    torch.testing.assert_close(torch.cat(got, 1), whole, **TOLERANCE)


def test_a_prompt_may_be_read_in_chunks(model: Any) -> None:
    ids = tokens(2, 7)
    assert_same(generate(model, ids, prefill_chunk_size=3), generate(model, ids))
    mask = mask_of([7, 3], 7, "left")  # of which the first chunk has no token of the second row
    with refuses(CANNOT + ENDS_IN_PADDING):
        generate(model, ids, attention_mask=mask, prefill_chunk_size=3)


def test_a_copy_of_a_cache_goes_another_way(model: Any) -> None:
    ids = tokens(2, 8)
    with torch.no_grad():
        cache = model(ids[:, :5], use_cache=True).cache
        other = copy.deepcopy(cache)
        first = model(ids[:, 5:6], cache=cache).logits
        model(ids[:, 6:7], cache=cache)
        assert torch.equal(model(ids[:, 5:6], cache=other).logits, first)


def test_a_cache_is_generated_from(model: Any) -> None:
    ids = tokens(2, 9)
    with torch.no_grad():
        cache = model(ids[:, :5], use_cache=True).cache
    assert_same(generate(model, ids, cache=cache), generate(model, ids))


@pytest.mark.parametrize("names", [r"h\.0", r"h\.1"])
def test_a_model_replaced_in_part(names: str) -> None:
    model, ids = with_hyena(gpt2(), causal=True, names=names), tokens(2, 7)
    mask = mask_of([7, 4], 7, "left")
    both = [generate(model, ids, attention_mask=mask, use_cache=cached) for cached in (True, False)]
    assert_same(*both)


def test_rows_are_chosen_and_repeated(model: Any) -> None:
    ids, mask = tokens(3, 6), mask_of([6, 3, 5], 6, "left")
    with torch.no_grad():
        cache = model(ids, attention_mask=mask, use_cache=True).cache
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([False, True, False, True, True, False]))
        rows, last = torch.tensor([0, 1, 2]), tokens(3, 1)
        longer = torch.cat([mask[rows], torch.ones(3, 1, dtype=torch.int64)], 1)
        got = model(last, attention_mask=longer, cache=cache).logits
        whole = model(torch.cat([ids[rows], last], 1), attention_mask=longer).logits
    torch.testing.assert_close(got[:, 0], whole[:, -1], **TOLERANCE)


def test_a_reset_cache_is_empty(model: Any) -> None:
    with torch.no_grad():
        cache = model(tokens(), use_cache=True).cache
        cache.reset()
        ids = tokens(2, 5)
        assert cache.get_seq_length() == 0
        assert torch.equal(model(ids, cache=cache).logits, model(ids).logits)


def test_a_length_beyond_the_operators_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=f"max_length is {LENGTH}"):
        generate(model, tokens(1, 20), max_new_tokens=6)


def test_tokens_read_with_gradients_are_not_gone_on_from(model: Any) -> None:
    cache = model(tokens(), use_cache=True).cache
    with (
        torch.no_grad(),
        refuses(
            CANNOT
            + "were read with gradients, which a state has not; read them under torch.no_grad()"
        ),
    ):
        model(tokens(3, 1), cache=cache)


def test_padding_behind_tokens_is_not_gone_on_from(model: Any) -> None:
    ids, mask = tokens(), mask_of([12, 5, 1], 12, "right")
    with torch.no_grad():
        cache = model(ids, attention_mask=mask, use_cache=True).cache
        with refuses(CANNOT + ENDS_IN_PADDING):
            model(tokens(3, 1), cache=cache)


def test_the_mask_of_the_tokens_before_is_asked_for(model: Any) -> None:
    ids, mask = tokens(), mask_of([12, 5, 1], 12, "left")
    message = (
        "TransformersAttentionAdapter: expected the attention_mask of the tokens in the cache, and "
        "ones after it for those that come next; got another, or none"
    )
    after = torch.ones(3, 1, dtype=torch.int64)
    with torch.no_grad():
        padded = model(ids, attention_mask=mask, use_cache=True).cache
        plain = model(ids, use_cache=True).cache
        for cache, given in (
            (padded, None),
            (padded, torch.cat([mask.flip(0), after], 1)),
            (padded, torch.cat([mask, 0 * after], 1)),
            (plain, torch.cat([mask, after], 1)),
        ):
            with refuses(message):
                model(tokens(3, 1), attention_mask=given, cache=cache)


def test_decoding_with_an_assistant_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="requires a cache that can be cropped"):
        generate(model, tokens(1, 5), prompt_lookup_num_tokens=2)
    with pytest.raises(ValueError, match="cannot take tokens off a state"):
        generate(gpt2(), tokens(1, 5), assistant_model=model, max_new_tokens=12)


def test_caches_of_other_kinds_are_refused(model: Any) -> None:
    with refuses(
        "TransformersAttentionAdapter: expected a transformers.DynamicCache as cache, got "
        "StaticCache; leave cache_implementation out, or pass use_cache=False"
    ):
        model(tokens(), cache=StaticCache(config=model.config, max_cache_len=LENGTH))
    ids, used = tokens(), DynamicCache(config=model.config)
    with torch.no_grad():
        gpt2()(ids, cache=used)
        with refuses(
            "TransformersAttentionAdapter: the cache holds keys and values of attention, 12 tokens "
            "from before the replacement; begin with an empty cache"
        ):
            model(tokens(3, 1), cache=used)
