"""What the tests of several commands share."""

from pathlib import Path

import pytest
import torch
from sequence_inputs import TEXTS

import hyena
from hyena.data import load_tokenizer


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model in float64, far from uniform, with its tokenizer, that of bytes."""
    config = hyena.ModelConfig(width=16, layers=2, mlp_width=16, max_length=48)
    generator = torch.Generator().manual_seed(1)
    model = hyena.LanguageModel(config, generator=generator, dtype=torch.float64)
    model.embedding.weight.data.mul_(20)
    path = tmp_path_factory.mktemp("model")
    model.save(path)
    load_tokenizer("bytes").save(path)
    return path


@pytest.fixture
def texts_file(tmp_path: Path) -> Path:
    """A file with a text in each line."""
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return file
