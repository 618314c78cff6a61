"""Arguments of a wrong kind are one line: what was asked, what was got, what to do."""

import inspect
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from generation_models import build

from hyena.data import load_tokenizer
from hyena.generation import Sampling, SequenceState, beam_search, generate, stream
from hyena.generation.model import Model
from hyena.model import LanguageModel

BYTES = load_tokenizer("bytes")


@pytest.mark.parametrize("call", [generate, stream, beam_search])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": 2.5}, "max_new_tokens: expected a whole number, got 2.5"),
        ({"max_new_tokens": None}, "max_new_tokens: expected a whole number, got None"),
        ({"stop": 1, "tokenizer": BYTES}, "stop: expected a text or several, got 1"),
        ({"stop": ["x", 1], "tokenizer": BYTES}, "stop: expected a text or several, got 1"),
        ({"stop_tokens": "x"}, r"stop_tokens: .*, got \['x'\]; for a text, use stop="),
        ({"stop_tokens": [1.5]}, r"stop_tokens: expected token ids, got \[1.5\]"),
        ({"stop_tokens": 257}, "stop_tokens: token id 257 is outside the vocabulary of 257"),
        ({"alternatives": 1.5}, "alternatives: expected a whole number, got 1.5"),
        ({"alternatives": -1}, "alternatives: expected 0 to 257, the size of the vocabulary"),
        ({"alternatives": 10**5000}, "alternatives: .*, got an int of some 5001 digits"),
        ({"stop_tokens": [10**5000]}, "stop_tokens: token id an int of some 5001 digits is out"),
        ({"tokenizer": "bytes"}, "such as hyena.data.load_tokenizer gives, got 'bytes'"),
        ({"prompts": 5}, "prompts: expected a text, texts or sequences of token ids, got 5"),
        ({"prompts": [[1.5] * 99]}, r"got \[1.5(, 1.5){11}…; a single"),
    ],
)
def test_arguments_of_all(call: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        call(build(), **{"prompts": [[1]], **arguments})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"seed": [1.5]}, "seed: expected a whole number, got 1.5"),
        ({"seed": None}, "seed: expected a whole number, got None"),
        ({"temperature": "1"}, "temperature: expected a number, got '1'"),
        ({"repetition_penalty": None}, "repetition_penalty: expected a number, got None"),
        ({"top_k": 1.5}, "top_k: expected a whole number, got 1.5"),
        ({"top_p": "a"}, "top_p: expected a number, got 'a'"),
        ({"min_p": [0.1]}, r"min_p: expected a number, got \[0.1\]"),
    ],
)
def test_arguments_of_drawing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        generate(build(), [[1]], **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beam_width": 1.5}, "beam_width: expected a whole number, got 1.5"),
        ({"beam_width": 10**19}, "beam_width: expected at most 65536, got 1" + 19 * "0"),
        ({"length_penalty": "1"}, "length_penalty: expected a number, got '1'"),
    ],
)
def test_arguments_of_beams(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        beam_search(build(), [[1]], **arguments)


def test_a_state_of_a_wrong_kind() -> None:
    model = build("hyena,rwkv")
    with torch.no_grad():
        _, two = model.prefill(torch.tensor([[1, 2], [3, 4]]))
    (first,) = generate(model, [[1]], max_new_tokens=2, return_state=True)
    expected = "state: expected a SequenceState, such as the state of a Generation, got a "
    for state, message in [
        (two, rf"{expected}ModelState; SequenceState\(state\) makes one of it"),
        ([two], rf"{expected}ModelState; SequenceState\(state\) makes one of it"),
        (first, f"{expected}Generation, which has it as .state if return_state=True was given"),
        ([first.state.logits], f"{expected}Tensor"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}"):
            generate(model, [[1]], state=state)
    with pytest.raises(
        ValueError, match=r"^state: expected the state of one sequence, got that of"
    ):
        generate(model, [[1]], state=SequenceState(two))
    with pytest.raises(TypeError, match=r"^SequenceState: expected a ModelState, .* a SequenceSt"):
        SequenceState(first.state)
    one = SequenceState(two.select([1]))  # as the message says
    assert len(generate(model, [[1]], state=one, max_new_tokens=3)[0].tokens) == 3


@pytest.mark.parametrize("kind", [np.int64, torch.tensor, lambda token: [token]])
def test_a_single_stop_token(kind: Callable[[int], Any]) -> None:
    model = build()
    free = generate(model, [[256]], max_new_tokens=30, seed=3)[0].tokens
    (cut,) = generate(model, [[256]], max_new_tokens=30, seed=3, stop_tokens=kind(free[7]))
    assert cut.tokens == free[: free.index(free[7])]
    (alone,) = generate(model, [[256]], max_new_tokens=30, seed=3, stop_tokens=free[7])
    assert alone == cut


def test_numbers_may_be_of_numpy() -> None:
    model, options = build(), {"temperature": np.float32(0.5), "top_p": np.float64(0.5)}
    Sampling(**options)
    found = generate(
        model, [[1], [2]], max_new_tokens=np.int64(3), seed=np.int64(4), top_k=np.int64(9)
    )
    assert found == generate(model, [[1], [2]], max_new_tokens=3, seed=[4, 5], top_k=9)


@pytest.mark.parametrize("call", [generate, stream, beam_search])
@pytest.mark.parametrize("model", [-1, None, "model", torch.nn.Linear(2, 2), LanguageModel])
def test_what_is_no_model(call: Any, model: Any) -> None:
    with pytest.raises(TypeError, match=r"^model: expected a LanguageModel, got .*; hyena\.load"):
        call(model, [[1]])


def test_errors_of_generate_are_its_own() -> None:
    for call, line in (
        (lambda: generate(build(), [[1]], max_length=3), "got an unexpected keyword argument 'm"),
        (lambda: generate(build()), "missing a required argument: 'prompts'"),
    ):
        with pytest.raises(TypeError, match=rf"^generate\(\) {line}"):
            call()


@pytest.mark.parametrize("name", ["prefill", "step"])
def test_what_is_asked_of_a_model_is_what_it_takes(name: str) -> None:
    asked = inspect.signature(getattr(Model, name))
    taken = inspect.signature(getattr(LanguageModel, name))
    more = [p for p in taken.parameters.values() if p.name not in asked.parameters]
    assert all(p.default is not p.empty for p in more)  # it takes more, where it need not be given
    kept = [p for p in taken.parameters.values() if p not in more]
    assert asked == taken.replace(parameters=kept)


def test_a_compiled_model_and_one_in_a_wrapper_generate() -> None:
    class Around(torch.nn.Module):
        def __init__(self, model: LanguageModel) -> None:
            super().__init__()
            self.model = model

        def __getattr__(self, name: str) -> Any:
            inner = self.__dict__["_modules"]["model"]
            return inner if name == "model" else getattr(inner, name)

    model = build()
    expected = generate(model, [[1]], max_new_tokens=3)
    for other in (Around(model), torch.compile(model, backend="eager")):
        assert generate(other, [[1]], max_new_tokens=3) == expected


def test_a_model_generates_by_the_function_of_the_same_name() -> None:
    model = build()
    asked: dict[str, Any] = {"max_new_tokens": 5, "tokenizer": BYTES, "seed": 3, "stop": "z"}
    assert model.generate("ab", **asked) == generate(model, "ab", **asked)
    assert "seed" in inspect.signature(model.generate).parameters


@pytest.mark.parametrize("call", [generate, stream, beam_search])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1, True]], r"expected token ids, got \[1, True\]; a single prompt"),
        ([torch.tensor([True])], r"expected token ids, got tensor\(\[True\]\); a single prompt"),
        ([[1, [2]]], r"expected token ids, got \[1, \[2\]\]; a single prompt"),
        ([[1, 1e308]], r"expected token ids, got \[1, 1e\+308\]; a single prompt"),
        ([[1, "2"]], r"expected token ids, got \[1, '2'\]; a single prompt"),
        ([[1, -1]], "token id -1 is outside the vocabulary of 257; was the text tokenized with"),
        ([[2**70]], "token id 1180591620717411303424 is outside the vocabulary of 257; was"),
    ],
)
def test_prompts_that_are_no_tokens_are_known_at_once(call: Any, ids: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^prompts: {message}"):
        call(build(), ids)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, torch.tensor])
def test_whole_numbers_may_be_of_any_library(kind: Callable[[int], Any]) -> None:
    model = build()
    options = {"max_new_tokens": 3, "alternatives": 2}
    given = {name: kind(value) for name, value in options.items()}
    expected = generate(model, [[1], [2]], seed=4, top_k=9, **options)
    assert generate(model, [[1], [2]], seed=kind(4), top_k=kind(9), **given) == expected
    beams = beam_search(model, [[1]], beam_width=kind(2), length_penalty=kind(1), **given)
    assert beams == beam_search(model, [[1]], beam_width=2, length_penalty=1, **options)


def test_a_sampling_keeps_plain_numbers() -> None:
    drawn = Sampling(torch.tensor(2), np.uint8(9), np.float32(0.5), Fraction(1, 2), 2**64)
    assert drawn == Sampling(2.0, 9, 0.5, 0.5, 2.0**64)
    kinds = [type(getattr(drawn, field.name)) for field in fields(drawn)[:5]]
    assert kinds == [float, int, float, float, float]
    for name in ("temperature", "repetition_penalty", "top_p", "min_p"):
        for wrong in (10**400, torch.zeros(2), "1"):
            with pytest.raises(ValueError, match=f"^{name}: expected a number, got [^\\n]*$"):
                Sampling(**{name: wrong})


@pytest.mark.parametrize("name", ["temperature", "repetition_penalty"])
def test_a_number_beyond_64_bits_is_as_good_as_its_float(name: str) -> None:
    model = build()
    (found,) = generate(model, [[1, 2]], max_new_tokens=3, **{name: 2**64})
    assert found == generate(model, [[1, 2]], max_new_tokens=3, **{name: 2.0**64})[0]
