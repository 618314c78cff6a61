"""Labels that a model gives, against its head's outputs sequence by sequence."""

from typing import Any

import numpy as np
import pytest
import torch
from labelled_rows import BYTES, sequences
from numpy.typing import NDArray

import hyena
from hyena.data import Document
from hyena.finetuning import Prediction, predict
from hyena.genomes import reverse_complement
from hyena.model import LanguageModel, ModelConfig
from hyena.model.label_head import LabelHead, Labels
from hyena.model.label_outputs import label_outputs

CLASSES = Labels("classification", ("a", "b", "c"), pool="last")
LETTERS = Labels("token-classification", ("H", "E"), begin=False)
NUMBERS = Labels("regression", ("x", "y"), means=(5.0, -2.0), deviations=(0.5, 3.0))
ALL = pytest.mark.parametrize("labels", [CLASSES, LETTERS, NUMBERS], ids=lambda x: x.task)
TEXTS = sequences(20)


def build(labels: Labels, **settings: Any) -> LanguageModel:
    values: dict[str, Any] = {"width": 8, "layers": 2, "mlp_width": 16, "max_length": 16}
    config = ModelConfig(**{**values, "mixers": "hyena,attention", "head_dim": 4, **settings})
    draw = torch.Generator().manual_seed(0)
    model = LanguageModel(config, generator=draw)
    model.label_head = LabelHead(8, labels, generator=draw)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "embedding.weight" or "proj" in name or "label_head" in name:
                parameter.mul_(20)
    return model.double().eval()


@torch.no_grad()
def slowly(model: LanguageModel, text: str) -> NDArray[Any]:
    """Probabilities or numbers of one sequence alone."""
    labels = model.label_head.labels
    ids = [*([BYTES.end_of_text] if labels.begin else []), *text.encode()]
    found = label_outputs(model, torch.tensor([ids]), torch.tensor([len(ids)]))[0].numpy()
    if labels is NUMBERS:
        return found * np.array(labels.deviations) + np.array(labels.means)
    powers = np.exp(found - found.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True))[-len(text) :]


def numbers(one: Prediction) -> NDArray[Any]:
    found = one.values if one.probabilities is None else one.probabilities
    assert found is not None
    return found


@ALL
@pytest.mark.parametrize("batch", [1, 7])
def test_labels_are_those_of_each_sequence_alone(labels: Labels, batch: int) -> None:
    model = build(labels).train()
    found = list(predict(model, BYTES, TEXTS, batch=batch))
    assert model.training
    model.eval()
    assert [(one.index, one.name, one.tokens) for one in found] == [
        (i, str(i), len(text)) for i, text in enumerate(TEXTS)
    ]
    for one, text in zip(found, TEXTS, strict=True):
        expected = slowly(model, text)
        np.testing.assert_allclose(numbers(one), expected, rtol=1e-9, atol=1e-12)
        if labels is CLASSES:
            assert one.label == labels.names[int(expected.argmax())]
        if labels is LETTERS:
            assert one.labels == tuple(labels.names[i] for i in expected.argmax(-1))


@ALL
def test_both_strands_are_averaged(labels: Labels) -> None:
    model = build(labels)
    for one, text in zip(predict(model, BYTES, TEXTS, both_strands=True), TEXTS, strict=True):
        other = slowly(model, reverse_complement(text.encode()).decode())
        if labels is LETTERS:
            other = other[::-1]
        expected = (slowly(model, text) + other) / 2
        np.testing.assert_allclose(numbers(one), expected, rtol=1e-9, atol=1e-12)


def test_records() -> None:
    (one,) = predict(build(CLASSES), BYTES, [Document("seq", "ACGT")])
    each = dict(zip(("probability_a", "probability_b", "probability_c"), numbers(one), strict=True))
    assert one.record() == {"index": 0, "name": "seq", "tokens": 4, "label": one.label, **each}
    (one,) = predict(build(NUMBERS), BYTES, "ACGT")
    x, y = numbers(one)
    assert one.record() == {
        "index": 0,
        "name": "0",
        "tokens": 4,
        "predicted_x": x,
        "predicted_y": y,
    }
    (one,) = predict(build(LETTERS), BYTES, "ACGT")
    record = one.record()
    assert record["labels"] == "".join(one.labels or ())
    assert record["probabilities"] == numbers(one).max(-1).tolist()
    longer = Labels("token-classification", ("exon", "E"))
    (one,) = predict(build(longer), BYTES, "ACGT")
    assert one.record()["labels"] == " ".join(one.labels or ())


def test_a_sequence_that_cannot_be_read_is_skipped_or_stops() -> None:
    model = build(CLASSES)
    texts = ["ACGT", "", "A" * 16, "GG"]
    found = list(predict(model, BYTES, texts, on_error="skip"))
    assert [one.skipped is None for one in found] == [True, False, False, True]
    assert found[1].record() == {"index": 1, "name": "1", "skipped": "it is empty"}
    assert (found[1].label, found[1].probabilities) == (None, None)
    with pytest.raises(ValueError, match=r"^2: it has 16 tokens, but the model has room for 15"):
        list(predict(model, BYTES, ["A", "C", "A" * 16]))
    no_dna = predict(model, BYTES, ["the cat"], both_strands=True)
    with pytest.raises(ValueError, match=r"^0: "):
        list(no_dna)


def test_what_does_not_fit_is_refused_at_once() -> None:
    plain = build(CLASSES)
    plain.label_head = None
    with pytest.raises(ValueError, match=r"^predict: the model has no head for labels; train one"):
        predict(plain, BYTES, "A")
    with pytest.raises(TypeError, match="model: expected a LanguageModel"):
        predict(None, BYTES, "A")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokenizer: expected one such as hyena"):
        predict(build(CLASSES), None, "A")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch: expected at least 1, got 0"):
        predict(build(CLASSES), BYTES, "A", batch=0)
    with pytest.raises(ValueError, match="on_error: expected one of stop, skip"):
        predict(build(CLASSES), BYTES, "A", on_error="x")  # type: ignore[arg-type]
    assert hyena.predict is predict


def test_weights_that_give_no_numbers_are_refused() -> None:
    model = build(CLASSES)
    with torch.no_grad():
        model.label_head.linear.bias[1] = float("nan")
    with pytest.raises(ValueError, match="what the model gives is not finite; its weights may be"):
        list(predict(model, BYTES, "A"))


def test_sequences_are_read_as_they_are_needed() -> None:
    read = []

    def texts() -> Any:
        for i in range(1000):
            read.append(i)
            yield "ACGT"

    next(predict(build(CLASSES), BYTES, texts(), batch=2))
    assert len(read) < 100
