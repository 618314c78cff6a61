"""A model is opened with the tokenizer that was saved with it, or one that fits."""

from pathlib import Path

import pytest
import torch

import hyena
from hyena.data import load_tokenizer
from hyena.interop.with_tokenizer import load_with_tokenizer, own_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hyena.LanguageModel(hyena.ModelConfig(width=8, layers=1, max_length=16)).save(tmp_path)
    return tmp_path


def test_the_saved_tokenizer_is_taken(folder: Path) -> None:
    load_tokenizer("bytes").save(folder)
    model, tokenizer = load_with_tokenizer(folder, length_policy="extrapolate")
    assert tokenizer.name == "bytes"
    assert model.config.length_policy == "extrapolate"
    assert not model.training
    assert load_with_tokenizer(folder, "bytes")[1].fingerprint == tokenizer.fingerprint
    with pytest.raises(ValueError, match="was trained with tokenizer bytes, which is saved with"):
        load_with_tokenizer(folder, "hyenadna")


def test_without_one_it_has_to_be_given(folder: Path) -> None:
    assert own_tokenizer(folder) is None
    with pytest.raises(FileNotFoundError, match="no tokenizer is saved with the model in"):
        load_with_tokenizer(folder)
    model, tokenizer = load_with_tokenizer(folder, "hyenadna", device="cpu")
    assert tokenizer.name == "hyenadna"
    assert next(model.parameters()).device == torch.device("cpu")
    with pytest.raises(ValueError, match="tokenizer evo has 512 ids, but the model in"):
        load_with_tokenizer(folder, "evo")
