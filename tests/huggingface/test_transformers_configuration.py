"""Configurations that cannot be are one line, wherever they come from: arguments, changes on
loading, folders of other kinds."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_transformers import SIZES, language_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
)

import hyena
from hyena.huggingface import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    HyenaModel,
)


def refused(call: Callable[[], Any], message: str, kind: type[Exception] = ValueError) -> None:
    with pytest.raises(kind, match=re.escape(message)) as problem:
        call()
    assert "\n" not in str(problem.value)


def test_a_folder_of_hyena_is_not_taken_for_one_of_defaults(tmp_path: Path) -> None:
    language_model().save(tmp_path)
    path = str(tmp_path)
    called = f"HyenaForCausalLM.from_language_model(hyena.load({path!r}))"
    refused(lambda: HyenaConfig.from_pretrained(path), called)
    for kind in (HyenaForCausalLM, HyenaModel, HyenaForSequenceClassification):
        refused(lambda kind=kind: kind.from_pretrained(path), called)  # type: ignore[misc]
    config = HyenaConfig(**{**SIZES, "filter": vars(SIZES["filter"])})
    refused(lambda: HyenaForCausalLM.from_pretrained(path, config=config), called)


def test_a_folder_of_another_kind_is_not_taken_for_one_of_defaults(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    expected = "expected a config.json of model_type 'hyena', got 'bert'; open it with AutoModel"
    refused(lambda: HyenaForCausalLM.from_pretrained(tmp_path), expected)
    (tmp_path / "config.json").write_text('{"width": 8}')
    refused(lambda: HyenaConfig.from_pretrained(tmp_path), "model_type 'hyena', got None")
    (tmp_path / "config.json").unlink()
    lacking = f"{tmp_path} has no config.json; give the folder of a saved model"
    refused(lambda: HyenaConfig.from_pretrained(tmp_path), lacking, FileNotFoundError)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "max"}, "HyenaConfig: expected pool last or mean, got 'max'"),
        ({"begin": "no"}, "HyenaConfig: expected begin True or False, got 'no'"),
        ({"bidirectional": "no"}, "HyenaConfig: expected bidirectional True or False, got 'no'"),
        ({"width": 0}, "model.width: expected at least 1, got 0"),
        ({"wdith": 12}, "HyenaConfig has no field 'wdith'; is 'width' meant?"),
        ({"num_layers": 2}, "HyenaConfig has no field 'num_layers'; is 'layers' meant?"),
        (
            {"width": 12, "hidden_size": 24},
            "HyenaConfig: width=12 and hidden_size=24 are one field by two names; give one",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_on_loading_as_in_a_new_one(
    changes: dict[str, Any], message: str, folder: Path
) -> None:
    refused(lambda: HyenaConfig(**changes), message)
    for kind in (AutoModelForSequenceClassification, HyenaModel):
        refused(lambda kind=kind: kind.from_pretrained(folder, **changes), message)  # type: ignore[misc]
    if len(changes) == 2:
        return
    config = HyenaConfig.from_pretrained(folder)
    if hasattr(config, next(iter(changes))):
        for name, value in changes.items():
            setattr(config, name, value)
        refused(config.model_config, message)


def test_what_transformers_keeps_is_kept(folder: Path) -> None:
    config = HyenaConfig(width=12, hidden_size=12, min_length=3, of_mine={"a": 1}, num_labels=3)
    assert (config.hidden_size, config.of_mine, config.num_labels) == (12, {"a": 1}, 3)
    again = HyenaConfig.from_dict(config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert AutoConfig.from_pretrained(folder, use_cache=False, output_hidden_states=True)


def test_another_length_would_be_another_model(folder: Path, tmp_path: Path) -> None:
    message = (
        f"max_position_embeddings=96 was asked for, but the filters of {folder} are scaled by 48; "
        'leave it out, and for longer inputs give length_policy="extrapolate"'
    )
    for kind in (HyenaForCausalLM, AutoModelForCausalLM):
        for name in ("max_position_embeddings", "max_length"):
            refused(
                lambda kind=kind, name=name: kind.from_pretrained(folder, **{name: 96}),  # type: ignore[misc]
                message,
            )
    config = AutoConfig.from_pretrained(folder, max_length=96)
    refused(lambda: HyenaForCausalLM.from_pretrained(folder, config=config), message)
    same = HyenaForCausalLM.from_pretrained(folder, max_position_embeddings=48)
    longer = AutoModelForCausalLM.from_pretrained(folder, length_policy="extrapolate")
    assert (same.model.config.max_length, longer.model.config.max_length) == (48, 48)
    assert longer.model.config.length_policy == "extrapolate"
    assert HyenaForCausalLM(config).model.config.max_length == 96  # a new one
    weights = tmp_path / "weights"  # without a config.json
    weights.mkdir()
    (weights / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    given = AutoConfig.from_pretrained(folder)
    assert HyenaModel.from_pretrained(weights, config=given).config.hidden_size == 12


def test_another_attention_is_refused(folder: Path) -> None:
    for name in ("sdpa", "flash_attention_2"):
        refused(
            lambda name=name: AutoModelForCausalLM.from_pretrained(  # type: ignore[misc]
                folder, attn_implementation=name
            ),
            f"HyenaForCausalLM: attn_implementation={name!r} was asked for, but there is one",
        )
    assert AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")


def test_only_a_language_model_is_taken_over() -> None:
    for kind in (HyenaForCausalLM, HyenaForSequenceClassification):
        refused(
            lambda kind=kind: kind.from_language_model("ours"),  # type: ignore[misc]
            f"{kind.__name__}.from_language_model: expected a LanguageModel, got 'ours'; "
            "hyena.load reads one from its folder",
            TypeError,
        )
    assert isinstance(HyenaForCausalLM.from_language_model(language_model()), HyenaForCausalLM)


def test_a_saved_configuration_says_its_kind(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["model_type"] == "hyena"
    assert hyena.load(folder).config == HyenaConfig.from_pretrained(folder).model_config()
