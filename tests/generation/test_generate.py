"""Generation equals recomputing the full forward for every token."""

import numpy as np
import pytest
import torch

from hyena.data import load_tokenizer
from hyena.generation import generate
from hyena.model import FilterConfig, LanguageModel, ModelConfig


def build(mixers="hyena", *, seed=0, **settings) -> LanguageModel:
    config = ModelConfig(
        **{
            "width": 24,
            "layers": 3,
            "mlp_width": 32,
            "head_dim": 8,
            "max_length": 64,
            "mixers": mixers,
            "filter": FilterConfig(emb_dim=5, width=8),
            **settings,
        }
    )
    model = LanguageModel(config, generator=torch.Generator().manual_seed(seed)).double()
    for name, parameter in model.named_parameters():  # far from uniform, so that choices differ
        if name == "embedding.weight" or "proj" in name:
            parameter.data.mul_(20)
    return model.eval()


def greedy_by_full_forward(model: LanguageModel, prompt: list[int], count: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize(
    ("mixers", "order"),
    [("hyena", 2), ("hyena", 3), ("hyena", 4), ("attention", 2), ("hyena,attention", 3)],
)
def test_greedy_tokens_are_those_of_the_full_forward(mixers, order):
    model = build(mixers, order=order)
    prompt = [256, 7, 130, 4]
    (result,) = generate(model, [prompt], max_new_tokens=40, temperature=0)
    expected = greedy_by_full_forward(model, prompt, 40)
    assert result.tokens == expected
    assert len(set(expected)) > 3
    assert result.finished == "length"
    assert result.text is None


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
def test_prompts_of_different_lengths_give_what_each_gives_alone(mixers):
    model = build(mixers)
    prompts = [[256, 3], [256, 9, 8, 7, 6, 5, 4], [256]]
    for temperature in (0.0, 1.0):
        together = generate(model, prompts, max_new_tokens=20, temperature=temperature, seed=5)
        for i, prompt in enumerate(prompts):
            (alone,) = generate(
                model, [prompt], max_new_tokens=20, temperature=temperature, seed=5 + i
            )
            assert together[i].tokens == alone.tokens


def test_the_seed_decides():
    model = build()
    runs = [generate(model, [[256]], max_new_tokens=30, seed=s)[0].tokens for s in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_top_k_1_and_a_tiny_top_p_are_greedy():
    model = build()
    greedy = generate(model, [[256, 1]], max_new_tokens=20, temperature=0)[0].tokens
    assert generate(model, [[256, 1]], max_new_tokens=20, top_k=1)[0].tokens == greedy
    assert generate(model, [[256, 1]], max_new_tokens=20, top_p=1e-9)[0].tokens == greedy


def test_text_in_text_out_with_streaming():
    model, tokenizer = build(), load_tokenizer("bytes")
    pieces = {0: "", 1: ""}

    def on_text(index, piece):
        pieces[index] += piece

    results = generate(
        model, ["We the", ""], tokenizer=tokenizer, max_new_tokens=30, on_text=on_text
    )
    for i, result in enumerate(results):
        assert result.text == pieces[i] == tokenizer.decode(result.tokens)


def test_a_stop_string_ends_the_text_before_it():
    model, tokenizer = build(), load_tokenizer("bytes")
    free = generate(model, ["We"], tokenizer=tokenizer, max_new_tokens=30, seed=3)[0]
    ascii_runs = [c for c in free.text[3:] if c.isascii()]
    stop = ascii_runs[0]
    cut = generate(model, ["We"], tokenizer=tokenizer, max_new_tokens=30, seed=3, stop=stop)[0]
    assert cut.finished == "stop"
    assert cut.text == free.text[: free.text.index(stop)]


def test_end_of_text_ends_a_sequence():
    model, tokenizer = build(), load_tokenizer("bytes")
    model.embedding.weight.data[256] = 0
    with torch.no_grad():
        first = model(torch.tensor([[256]]))[0, -1]
    model.norm.bias.data += 100 * model.embedding.weight.data[int(first.argmax())]
    model.embedding.weight.data[256] = model.norm.bias.data
    (result,) = generate(model, [""], tokenizer=tokenizer, max_new_tokens=10, temperature=0)
    assert result.finished == "end of text"
    assert result.tokens == []
    assert result.text == ""


def test_the_mode_of_the_model_is_restored():
    model = build().train()
    model.blocks[1].eval()  # as a frozen part may be
    modes = [module.training for module in model.modules()]
    generate(model, [[256]], max_new_tokens=2)
    assert [module.training for module in model.modules()] == modes


def test_growing_past_max_length_follows_the_policy():
    prompt, count = [256, 1, 2], 30
    model = build(max_length=16, length_policy="extrapolate")
    (result,) = generate(model, [prompt], max_new_tokens=count, temperature=0)
    assert result.tokens == greedy_by_full_forward(model, prompt, count)
    for policy, advice in [("error", "extrapolate"), ("interpolate", "at most 14 new tokens")]:
        model = build(max_length=16, length_policy=policy)
        assert len(generate(model, [prompt], max_new_tokens=14)[0].tokens) == 14
        with pytest.raises(ValueError, match=f"do not fit max_length 16.*{advice}"):
            generate(model, [prompt], max_new_tokens=15)
        with pytest.raises(ValueError, match=r"policy=.*; shorten the prompt") as error:
            generate(model, [[1] * 17], max_new_tokens=1)
        assert "ask for" not in str(error.value)


def test_a_trained_encoding_is_known_to_end_before_anything_is_generated():
    filter = FilterConfig(emb_dim=5, width=8, train_encoding=True)
    model = build(max_length=16, length_policy="extrapolate", filter=filter)
    tokenizer, pieces = load_tokenizer("bytes"), []
    options = {"tokenizer": tokenizer, "on_text": lambda _, piece: pieces.append(piece)}
    assert len(generate(model, [[1]], max_new_tokens=16)[0].tokens) == 16
    with pytest.raises(ValueError, match="at most 16 new tokens: the trained encoding"):
        generate(model, [""], max_new_tokens=17, **options)
    assert pieces == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [[]]}, "no tokens"),
        ({"prompts": ["text"]}, "needs tokenizer="),
        ({"prompts": [[1]], "stop": "x"}, "give the tokenizer too"),
        ({"prompts": [[1]], "max_new_tokens": 0}, "max_new_tokens: expected at least 1"),
        ({"prompts": [[1]], "temperature": -1.0}, "temperature: expected at least 0"),
        ({"prompts": [[1]], "temperature": float("nan")}, "temperature: expected at least 0"),
        ({"prompts": [[1]], "top_k": 0}, "top_k: expected at least 1"),
        ({"prompts": [[1]], "top_p": 0.0}, "top_p: expected 0 < top_p"),
        ({"prompts": [[1]], "seed": 2**63}, "seed: expected an integer of 64 bits, got 9223"),
        ({"prompts": [1, 2]}, r"got 1; a single prompt of ids goes in a list, such as \[\[1, 2"),
        ({"prompts": [[1.5]]}, r"a sequence of token ids, got \[1\.5\]"),
        ({"prompts": [[999]], "max_new_tokens": 4}, "token id 999 is outside the vocabulary"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments, message):
    with pytest.raises(ValueError, match=message) as error:
        generate(build(), **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_ids_may_be_of_numpy_or_pytorch(kind):
    model = build()
    expected = generate(model, [[256, 1]], max_new_tokens=5)[0].tokens
    assert generate(model, [kind([256, 1])], max_new_tokens=5)[0].tokens == expected


def test_a_damaged_model_is_named():
    model = build()
    model.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="logits are not finite"):
        generate(model, [[1]], max_new_tokens=2)
