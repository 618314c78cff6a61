"""Pipelines of transformers on Hyena models and our tokenizers, from text to text."""

from pathlib import Path

import pytest
import torch
from small_transformers import SIZES, language_model, small
from transformers import TextStreamer, pipeline

import hyena
from hyena.data import load_tokenizer
from hyena.huggingface import (
    HyenaConfig,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    HyenaModel,
    export,
    tokenizer_as_transformers,
)

BYTES = load_tokenizer("bytes")
PROMPTS = ["to be", "or not", "x"]


def of_bytes() -> hyena.LanguageModel:
    return language_model(vocab_size=257)


def continued(new: int) -> list[str]:
    """The prompts with what `hyena.generation.generate` finds likeliest."""
    found = hyena.generation.generate(
        of_bytes(), PROMPTS, tokenizer=BYTES, max_new_tokens=new, temperature=0
    )
    return [p + str(one.text) for p, one in zip(PROMPTS, found, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_text_goes_on_as_with_hyena(batch_size: int, tmp_path: Path) -> None:
    export(small(vocab_size=257), tmp_path, tokenizer=BYTES)
    write = pipeline("text-generation", model=str(tmp_path), batch_size=batch_size)
    found = write(PROMPTS, max_new_tokens=9, do_sample=False)
    assert [one[0]["generated_text"] for one in found] == continued(9)


def test_a_streamer_prints_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, model = tokenizer_as_transformers(BYTES), small(vocab_size=257)
    streamer = TextStreamer(tokenizer, skip_prompt=False, skip_special_tokens=True)
    given = tokenizer(PROMPTS[0], return_tensors="pt")
    model.generate(**given, max_new_tokens=9, do_sample=False, streamer=streamer)
    assert capsys.readouterr().out == continued(9)[0] + "\n"


@torch.no_grad()
def test_classes_and_vectors_of_texts() -> None:
    tokenizer = tokenizer_as_transformers(BYTES)
    model = HyenaForSequenceClassification.from_language_model(
        of_bytes(), id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1}
    )
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, batch_size=3)
    for text, one in zip(PROMPTS, classify(PROMPTS), strict=True):
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        assert one["label"] == ("no", "yes")[int(logits.argmax())]
        assert one["score"] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-4)
    base = HyenaModel.from_language_model(of_bytes())
    vectors = pipeline("feature-extraction", model=base, tokenizer=tokenizer)
    expected = base(**tokenizer(PROMPTS[0], return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(torch.tensor(vectors(PROMPTS[0])), expected)


@torch.no_grad()
def test_a_masked_letter_is_filled_in() -> None:
    tokenizer = tokenizer_as_transformers(load_tokenizer("hyenadna"), split_special_tokens=False)
    sizes = {**SIZES, "vocab_size": 12, "filter": vars(SIZES["filter"])}
    model = HyenaForMaskedLM(HyenaConfig(**sizes, bidirectional=True)).eval()
    fill = pipeline("fill-mask", model=model, tokenizer=tokenizer, top_k=12)
    found = fill("AC[MASK]T")
    ids = torch.tensor([[1, 7, 8, 3, 10]])
    expected = model(ids).logits[0, 3].softmax(-1)
    assert {one["token"]: one["score"] for one in found} == pytest.approx(
        dict(enumerate(expected.tolist())), rel=1e-4
    )
