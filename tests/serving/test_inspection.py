"""What can be seen of the layers of a model that is being served."""

import threading
from typing import Any

import pytest
import torch
from comparison import assert_close
from generation_models import build
from torch import Tensor

from hyena.data import load_tokenizer
from hyena.mixers import HyenaOperator, hyena_matrix
from hyena.model import LanguageModel
from hyena.model.hidden import mixer_input
from hyena.serving import Engine, Inspector, Layer, Request
from hyena.serving.inspection import MOST_TAPS, MOST_TOKENS, SIDE

BYTES = load_tokenizer("bytes")
TEXT = "to see a world"


def matrix_of(model: LanguageModel, text: str, layer: int, channel: int) -> Tensor:
    """|H(u)| at its full size."""
    ids = torch.from_numpy(BYTES.encode(text))[None]
    mixer = model.blocks[layer].mixer
    assert isinstance(mixer, HyenaOperator)
    return hyena_matrix(mixer, mixer_input(model, ids, layer)[0], channel).matrix.abs()


def test_layers_are_named_with_the_long_convolutions_of_a_channel() -> None:
    model = build("hyena,attention,hyena", order=3)
    expected = [Layer("hyena", 2), Layer("attention", 0), Layer("hyena", 2)]
    assert Inspector(model, BYTES).layers() == expected


@pytest.mark.parametrize("channel", [0, 23])
@pytest.mark.parametrize("length", [1, 64])
def test_a_filter_is_that_of_the_layer(length: int, channel: int) -> None:
    model = build(order=3)
    taps, skip = Inspector(model, BYTES).filter(1, channel, length)
    mixer = model.blocks[1].mixer
    assert_close(taps, mixer.filter(length)[:, channel], 1e-12)
    assert torch.equal(skip, mixer.filter.skip[:, channel])


@pytest.mark.parametrize("layer", [0, 2])
def test_a_short_text_is_drawn_cell_by_cell(layer: int) -> None:
    model = build()
    picture = Inspector(model, BYTES).matrix(TEXT, layer, 5)
    assert picture.tokens == list(TEXT)
    assert_close(picture.cells, matrix_of(model, TEXT, layer, 5), 1e-12)


def test_a_long_text_is_drawn_by_the_largest_values() -> None:
    model, L = build(max_length=700), 700
    picture = Inspector(model, BYTES).matrix("wave" * (L // 4), 1, 0)
    assert picture.cells.shape == (SIDE, SIDE)
    assert len(picture.tokens) == L
    whole = matrix_of(model, "wave" * (L // 4), 1, 0)
    edges = [(k * L // SIDE, -(-(k + 1) * L // SIDE)) for k in range(SIDE)]
    rows = torch.stack([whole[a:b].amax(0) for a, b in edges])
    assert_close(picture.cells, torch.stack([rows[:, a:b].amax(1) for a, b in edges], 1), 1e-12)


def test_parameters_are_shared_and_the_model_is_left_as_it_was() -> None:
    model = build().train()
    inspector = Inspector(model, BYTES)
    assert model.training
    with torch.no_grad():
        model.blocks[0].mixer.in_proj.weight.mul_(2)
    assert_close(inspector.matrix(TEXT, 0, 1).cells, matrix_of(model, TEXT, 0, 1), 1e-12)


def test_an_engine_at_work_is_not_disturbed() -> None:
    model = build()
    request = Request(BYTES.encode("abc").tolist(), 40)

    def served(look: bool) -> list[Any]:
        engine, events, done = Engine(model, BYTES), [], threading.Event()
        inspector = Inspector(model, BYTES)

        def take(event: Any) -> None:
            events.append(event)
            if event.finished:
                done.set()

        engine.submit(request, take)
        engine.start()
        while look and not done.is_set():
            inspector.matrix(TEXT, 0, 0)
            inspector.filter(2, 3, 64)
        assert done.wait(60)
        engine.close()
        return events

    assert served(look=True) == served(look=False)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer": 3}, "^layer: expected at most 2, got 3"),
        ({"layer": -1}, "^layer: expected at least 0, got -1"),
        ({"layer": 1}, "^layer: expected a Hyena operator, but layer 1 is attention"),
        ({"channel": 24}, "^channel: expected at most 23, got 24"),
        ({"text": ""}, "^text: expected one token to 1,024, got 0; write something"),
        ({"text": "x" * (MOST_TOKENS + 1)}, "^text: .* got 1,025; shorten it"),
        ({"text": "x" * 65}, "the input is 65 tokens long but the model's max_length is 64"),
    ],
)
def test_texts_and_places_that_cannot_be(asked: dict[str, Any], message: str) -> None:
    inspector = Inspector(build("hyena,attention,hyena"), BYTES)
    with pytest.raises(ValueError, match=message):
        inspector.matrix(**{"text": TEXT, "layer": 0, "channel": 0, **asked})


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (0, "^length: expected at least 1, got 0"),
        (MOST_TAPS + 1, "^length: expected at most 4096, got 4097"),
        (65, "the input is 65 long but max_length is 64"),
    ],
)
def test_lengths_of_filters_that_cannot_be(length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Inspector(build(), BYTES).filter(0, 0, length)
