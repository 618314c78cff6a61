"""Generation equals recomputing the full forward for every token."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from generation_models import build, greedy_by_full_forward, next_logprobs, tempered

from hyena.data import load_tokenizer
from hyena.generation import beam_search, generate
from hyena.model import FilterConfig, LanguageModel

BYTES = load_tokenizer("bytes")


@pytest.mark.parametrize(
    ("mixers", "order"),
    [
        ("hyena", 2),
        ("hyena", 3),
        ("hyena", 4),
        ("attention", 2),
        ("hyena,attention", 2),
        ("hyena,attention", 3),
        ("attention,hyena", 4),
    ],
)
def test_greedy_tokens_are_those_of_the_full_forward(mixers: str, order: int) -> None:
    model = build(mixers, order=order)
    prompt = [256, 7, 130, 4]
    (result,) = generate(model, [prompt], max_new_tokens=40, temperature=0)
    expected = greedy_by_full_forward(model, prompt, 40)
    assert result.tokens == expected
    assert len(set(expected)) > 3
    assert result.finished == "length"
    assert result.text is None
    assert result.state is None


@pytest.mark.parametrize(
    ("mixers", "order"), [("hyena", 3), ("hyena,attention", 2), ("hyena,attention", 4)]
)
@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 1.0},
        {"temperature": 2.0, "top_k": 40, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3},
    ],
    ids=["greedy", "plain", "all"],
)
def test_prompts_of_different_lengths_give_what_each_gives_alone(
    mixers: str, order: int, options: dict[str, Any]
) -> None:
    model = tempered(build(mixers, order=order), 0.05)
    prompts = [[256, 3], [256, 9, 8, 7, 6, 5, 4], [256], [256, 2, 2]]
    options = {**options, "max_new_tokens": 20, "stop_tokens": range(0, 256, 9)}
    together = generate(model, prompts, seed=5, **options)
    for i, prompt in enumerate(prompts):
        (alone,) = generate(model, [prompt], seed=5 + i, **options)
        assert together[i].tokens == alone.tokens
        assert together[i].finished == alone.finished
        for a, b in zip(together[i].logprobs, alone.logprobs, strict=True):
            assert math.isclose(a, b, rel_tol=1e-9)
    reordered = generate(model, prompts[::-1], seed=[8, 7, 6, 5], **options)
    assert [r.tokens for r in reordered] == [r.tokens for r in together[::-1]]
    if options["temperature"]:
        assert len({len(r.tokens) for r in together}) > 1


def test_prompts_that_learned_positions_forbid_to_pad_run_beside_one_another() -> None:
    model = tempered(build("attention", positions="learned"), 0.05)
    prompts = [[256, 3], [256, 9, 8, 7], [256, 4]]
    together = generate(model, prompts, seed=5, max_new_tokens=20)
    for i, prompt in enumerate(prompts):
        assert (
            together[i].tokens == generate(model, [prompt], seed=5 + i, max_new_tokens=20)[0].tokens
        )
    beams = beam_search(model, prompts, max_new_tokens=20, beam_width=3)
    for prompt, found in zip(prompts, beams, strict=True):
        (alone,) = beam_search(model, [prompt], max_new_tokens=20, beam_width=3)
        assert [beam.tokens for beam in found] == [beam.tokens for beam in alone]


def test_a_finished_sequence_costs_nothing_further(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tempered(build(), 0.05)
    sizes, step = [], LanguageModel.step

    def counting(self: LanguageModel, ids: torch.Tensor, state: Any) -> Any:
        sizes.append(len(ids))
        return step(self, ids, state)

    monkeypatch.setattr(LanguageModel, "step", counting)
    options = {"max_new_tokens": 30, "stop_tokens": range(0, 256, 9), "seed": 1}
    results = generate(model, [[256, i] for i in range(6)], **options)
    # A sequence of n tokens that ran to its end has n − 1 steps; a stopped one n, for its last
    # token was followed by the one that stopped it.
    steps = [len(r.tokens) - (r.finished == "length") for r in results]
    assert sizes == [sum(t < n for n in steps) for t in range(max(steps))]
    assert len(set(sizes)) > 3


def test_the_seed_decides() -> None:
    model = build()
    runs = [generate(model, [[256]], max_new_tokens=30, seed=s)[0].tokens for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_top_k_1_and_a_tiny_top_p_are_greedy() -> None:
    model = build()
    greedy = generate(model, [[256, 1]], max_new_tokens=20, temperature=0)[0].tokens
    for option in ({"top_k": 1}, {"top_p": 1e-9}, {"min_p": 1.0}):
        assert generate(model, [[256, 1]], max_new_tokens=20, **option)[0].tokens == greedy


def test_a_harsh_penalty_forbids_tokens_of_the_prompt_and_generated_ones() -> None:
    model = build(vocab_size=40)
    prompt = [3, 4, 5, 6]
    free = generate(model, [prompt], max_new_tokens=20, temperature=0)[0].tokens
    assert set(free) & {*prompt} or len(set(free)) < 20
    result = generate(model, [prompt], max_new_tokens=20, temperature=0, repetition_penalty=1e9)[0]
    assert len(set(result.tokens)) == 20
    assert not set(result.tokens) & set(prompt)


def test_what_ends_a_sequence_is_not_penalized() -> None:
    model = build(vocab_size=40)
    # A prompt of all tokens but the second likeliest, which the penalty makes the likeliest.
    for second in range(40):
        prompt = [token for token in range(40) if token != second]
        with torch.no_grad():
            values, order = model(torch.tensor([prompt]))[0, -1].topk(2)
        if order[1] == second and values[1] > 0:
            break
    first = int(order[0])
    options = {"max_new_tokens": 1, "temperature": 0, "repetition_penalty": 1e9}
    assert generate(model, [prompt], **options)[0].tokens == [second]
    (result,) = generate(model, [prompt], stop_tokens=[first], **options)
    assert (result.tokens, result.finished) == ([], "stop")


def test_logprobs_are_the_models_own_whatever_is_drawn_with() -> None:
    model = tempered(build(), 0.05)
    prompt = [256, 7]
    (result,) = generate(
        model, [prompt], max_new_tokens=15, temperature=3, top_k=50, alternatives=3, seed=1
    )
    for n, (token, logprob, alternatives) in enumerate(
        zip(result.tokens, result.logprobs, result.alternatives, strict=True)
    ):
        own = next_logprobs(model, prompt + result.tokens[:n])
        assert math.isclose(logprob, own[token], rel_tol=1e-9)
        top = own.topk(3)
        assert [i for i, _ in alternatives] == top.indices.tolist()
        torch.testing.assert_close(torch.tensor([p for _, p in alternatives]).double(), top.values)
    assert result.tokens != [a[0][0] for a in result.alternatives]
    assert generate(model, [prompt], max_new_tokens=2)[0].alternatives == [[], []]


def test_text_in_text_out() -> None:
    results = generate(build(), ["We the", ""], tokenizer=BYTES, max_new_tokens=30)
    for result in results:
        assert result.text == BYTES.decode(result.tokens)
        assert len(result.tokens) > 3


def test_the_earliest_of_several_stop_strings_ends_the_text_before_it() -> None:
    model = build()
    options = {"tokenizer": BYTES, "max_new_tokens": 30, "seed": 3}
    free = generate(model, ["We"], **options)[0]
    late, early = [c for c in free.text[3:] if c.isascii()][1::-1]
    for stops in ([late, early], [early, late], early, ("\N{SNOWMAN}", early)):
        cut = generate(model, ["We"], stop=stops, **options)[0]
        assert cut.finished == "stop"
        assert cut.text == free.text[: free.text.index(early)]
        assert cut.tokens == free.tokens[: len(cut.tokens)]
        assert len(cut.logprobs) == len(cut.tokens)
        assert BYTES.decode(cut.tokens).endswith(early)


def test_a_stop_token_ends_a_sequence_and_is_not_returned() -> None:
    model = build()
    free = generate(model, [[256]], max_new_tokens=30, seed=3)[0].tokens
    stop = free[7]
    (cut,) = generate(model, [[256]], max_new_tokens=30, seed=3, stop_tokens=[stop, 0])
    assert cut.tokens == free[: free.index(stop)]
    assert cut.finished == "stop"


def test_end_of_text_ends_a_sequence() -> None:
    model = build()
    model.embedding.weight.data[256] = 0
    with torch.no_grad():
        first = model(torch.tensor([[256]]))[0, -1]
    model.norm.bias.data += 100 * model.embedding.weight.data[int(first.argmax())]
    model.embedding.weight.data[256] = model.norm.bias.data
    (result,) = generate(model, [""], tokenizer=BYTES, max_new_tokens=10, temperature=0)
    assert result.finished == "end of text"
    assert result.tokens == result.logprobs == []
    assert result.text == ""


def test_the_mode_of_the_model_is_restored() -> None:
    model = build().train()
    model.blocks[1].eval()  # as a frozen part may be
    modes = [module.training for module in model.modules()]
    generate(model, [[256]], max_new_tokens=2)
    assert [module.training for module in model.modules()] == modes


def test_growing_past_max_length_follows_the_policy() -> None:
    prompt, count = [256, 1, 2], 30
    model = build(max_length=16, length_policy="extrapolate")
    (result,) = generate(model, [prompt], max_new_tokens=count, temperature=0)
    assert result.tokens == greedy_by_full_forward(model, prompt, count)
    for policy, advice in [("error", "extrapolate"), ("interpolate", "at most 14 new tokens")]:
        model = build(max_length=16, length_policy=policy)
        assert len(generate(model, [prompt], max_new_tokens=14)[0].tokens) == 14
        with pytest.raises(ValueError, match=f"do not fit max_length 16.*{advice}"):
            generate(model, [prompt], max_new_tokens=15)
        with pytest.raises(ValueError, match=r"policy .*; shorten the prompt") as error:
            generate(model, [[1] * 17], max_new_tokens=1)
        assert "ask for" not in str(error.value)


@pytest.mark.parametrize("policy", ["extrapolate", "error"])
def test_a_trained_encoding_is_known_to_end_before_anything_is_generated(policy: str) -> None:
    filter = FilterConfig(emb_dim=5, width=8, train_encoding=True)
    model = build(max_length=16, length_policy=policy, filter=filter)
    assert len(generate(model, [[1]], max_new_tokens=16)[0].tokens) == 16
    with pytest.raises(ValueError, match="at most 16 new tokens: the trained encoding"):
        generate(model, [""], tokenizer=BYTES, max_new_tokens=17)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [[]]}, "no tokens"),
        ({"prompts": ["text"]}, "needs tokenizer="),
        ({"stop": "x"}, "give the tokenizer too"),
        ({"stop": ["x", ""], "tokenizer": BYTES}, "stop: expected a text, got an empty one"),
        ({"stop_tokens": [257]}, "stop_tokens: token id 257 is outside the vocabulary of 257"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected at least 1"),
        ({"temperature": -1.0}, "temperature: expected at least 0"),
        ({"seed": 2**63}, "seed: expected an integer of 64 bits, got 9223"),
        ({"seed": [1, 2]}, "seed: expected one for each prompt, 1 in all, got 2"),
        ({"alternatives": 258}, "alternatives: expected 0 to 257, the size of the vocabulary"),
        ({"prompts": [1, 2]}, r"got 1; a single prompt of ids goes in a list, such as \[\[1, 2"),
        ({"prompts": [[1.5]]}, r"prompts: expected token ids, got \[1\.5\]"),
        ({"prompts": [[999]], "max_new_tokens": 4}, "token id 999 is outside the vocabulary"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        generate(build(), **{"prompts": [[1]], **arguments})
    assert "\n" not in str(error.value)


def test_no_prompts_give_no_results() -> None:
    assert generate(build(), []) == []


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_ids_may_be_of_numpy_or_pytorch(kind: Any) -> None:
    model = build()
    expected = generate(model, [[256, 1]], max_new_tokens=5)[0].tokens
    assert generate(model, [kind([256, 1])], max_new_tokens=5)[0].tokens == expected


def test_a_damaged_model_is_named() -> None:
    model = build()
    model.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="logits are not finite"):
        generate(model, [[1]], max_new_tokens=2)
