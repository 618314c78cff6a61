"""What the tests of `hyena.huggingface` share."""

from pathlib import Path

import pytest
from small_transformers import small
from transformers.utils import logging

from hyena.huggingface import HyenaForCausalLM

logging.disable_progress_bar()
logging.set_verbosity_error()  # reports of what files lack, of which tests ask by themselves


@pytest.fixture(scope="module")
def model() -> HyenaForCausalLM:
    """A small model of hyena blocks, in evaluation mode. Not to be changed."""
    return small()


@pytest.fixture(scope="module")
def folder(model: HyenaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``save_pretrained`` writes of `model`. Not to be changed."""
    path = tmp_path_factory.mktemp("saved")
    model.save_pretrained(path)
    return path
