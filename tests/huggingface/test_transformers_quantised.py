"""Weights that torchao rounds: by transformers, and refused where a file cannot hold them."""

import re
from pathlib import Path

import pytest
import torch
from small_transformers import small, tokens
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig, quantize_
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, TorchAoConfig

import hyena
from hyena.huggingface import HyenaForCausalLM
from hyena.model import outside_filters


def int8() -> Int8WeightOnlyConfig:
    return Int8WeightOnlyConfig(set_inductor_config=False)


def test_a_rounded_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    model = small()
    quantize_(model, int8(), filter_fn=outside_filters)
    with pytest.raises(ValueError, match="are rounded, Int8Tensor, which these files cannot hold"):
        model.save_pretrained(tmp_path / "saved")
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_transformers_leaves_filters_alone(folder: Path, tmp_path: Path) -> None:
    expected = HyenaForCausalLM.from_pretrained(folder)
    quantize_(expected, int8(), filter_fn=outside_filters)
    asked, ids = TorchAoConfig(int8()), tokens(2, 9)
    as_dict = HyenaForCausalLM.from_pretrained(folder, quantization_config=asked.to_dict())
    assert torch.equal(as_dict(ids).logits, expected(ids).logits)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=asked)
    assert asked.modules_to_not_convert is None
    for name, value in expected.named_parameters():
        found = model.get_parameter(name)
        assert isinstance(found, Int8Tensor) == isinstance(value, Int8Tensor), name
    assert torch.equal(model(ids).logits, expected(ids).logits)
    model.save_pretrained(tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(ids).logits, model(ids).logits)
    with pytest.raises(ValueError, match=re.escape("saved holds quantised weights, which are no")):
        hyena.load(tmp_path / "saved")


def test_kinds_that_would_round_filters_are_one_line(folder: Path) -> None:
    for given in (BitsAndBytesConfig(load_in_8bit=True), {"load_in_8bit": True}):
        with pytest.raises(ValueError, match=r"^quantization_config: BitsAndBytesConfig has no"):
            HyenaForCausalLM.from_pretrained(folder, quantization_config=given)
