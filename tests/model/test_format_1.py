"""A model written in format version 1 loads and computes for ever what it computed then."""

import json
from pathlib import Path

import pytest
from comparison import assert_close
from safetensors.torch import load_file

import hyena
from hyena.model import FilterConfig, ModelConfig
from hyena.model.checkpoint import FORMAT_VERSION

pytestmark = pytest.mark.cpu


FOLDER = Path(__file__).parent / "format_1"


def test_the_sample_is_of_version_1_and_newer_code_still_reads_it() -> None:
    assert json.loads((FOLDER / "config.json").read_text())["format_version"] == 1
    assert FORMAT_VERSION >= 1


def test_no_field_of_the_sample_has_its_default() -> None:
    # So that a field that is dropped, renamed or read in another sense moves the logits.
    saved = json.loads((FOLDER / "config.json").read_text())["model"]
    for values, default in ((saved, ModelConfig()), (saved["filter"], FilterConfig())):
        same = {name for name, value in values.items() if value == getattr(default, name)}
        assert same <= {"dropout", "length_policy", "window"}


@pytest.mark.parametrize("training", [False, True])
def test_the_logits_are_those_that_were_stored(training: bool) -> None:
    stored = load_file(FOLDER / "expected.safetensors")
    model = hyena.load(FOLDER).train(training)
    assert_close(model(stored["input_ids"]), stored["logits"], 1e-10)
