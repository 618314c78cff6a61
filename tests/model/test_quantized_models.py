"""Models whose weights torchao has rounded to 8 bits: near the float model in every pass."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from peft import get_peft_model
from small_models import STRIPES, small_model, tokens
from test_lora import continued, lora
from torch import Tensor, nn
from torchao.quantization import (
    Int8DynamicActivationInt8WeightConfig,
    Int8Tensor,
    Int8WeightOnlyConfig,
    quantize_,
)

import hyena
from hyena.mixers import SPECS
from hyena.model import LanguageModel, outside_filters
from hyena.model.label_head import LabelHead, Labels
from hyena.model.label_outputs import label_outputs

WAYS: dict[str, Any] = {
    "weights": Int8WeightOnlyConfig(set_inductor_config=False),
    "dynamic": Int8DynamicActivationInt8WeightConfig(set_inductor_config=False),
}
# Relative L2 errors of logits: against the float model, and of steps against the forward pass,
# where a rounding error may move an activation from one of 255 values to the next.
NEAR = 0.1
SAME = {"weights": 1e-5, "dynamic": 0.1}


def quantized(way: str, dtype: torch.dtype = torch.float32, **settings: Any) -> LanguageModel:
    model = small_model(dtype=dtype, **settings)
    quantize_(model, WAYS[way], filter_fn=outside_filters)
    return model


def in_float64(dtype: torch.dtype = torch.float32, **settings: Any) -> LanguageModel:
    """The same weights before they are rounded."""
    return small_model(dtype=dtype, **settings).double()


def rounded(model: nn.Module) -> set[str]:
    return {name for name, p in model.named_parameters() if isinstance(p, Int8Tensor)}


def test_filters_are_left_alone() -> None:
    names = rounded(quantized("weights", mixers="hyena,attention"))
    mixers = {
        f"blocks.{i}.mixer.{name}.weight" for i in range(3) for name in ("in_proj", "out_proj")
    }
    assert names == mixers | {
        f"blocks.{i}.mlp.{n}.weight" for i in range(3) for n in ("up", "down")
    }
    assert "head.weight" in rounded(quantized("weights", **STRIPES))


def test_layers_that_are_quantized_already_are_left_alone() -> None:
    model = quantized("weights")
    before = {name: p for name, p in model.named_parameters()}
    quantize_(model, WAYS["dynamic"], filter_fn=outside_filters)
    assert all(p is before[name] for name, p in model.named_parameters())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mixers", [*SPECS, "stripes"])
@torch.no_grad()
def test_every_pass_is_near_the_float_model(mixers: str, way: str) -> None:
    settings = STRIPES if mixers == "stripes" else {"mixers": mixers}
    model, exact, ids = quantized(way, **settings), in_float64(**settings), tokens(2, 13)
    expected, found = exact(ids), model(ids)
    assert 1e-5 < relative_error(found, expected) < NEAR
    assert_close(continued(model, ids, 5), found, SAME[way])
    assert relative_error(model.token_losses(ids, ids), exact.token_losses(ids, ids)) < NEAR


@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_weights_are_rounded_from_bfloat16(way: str) -> None:
    model, ids = quantized(way, torch.bfloat16), tokens(2, 13)
    expected = in_float64(torch.bfloat16)(ids)
    assert model(ids).dtype == torch.bfloat16
    assert relative_error(model(ids), expected) < 0.1
    assert relative_error(continued(model, ids, 5), expected) < 0.1


@pytest.mark.parametrize("way", WAYS)
def test_it_generates(way: str) -> None:
    model = quantized(way)
    (row,) = model.generate([tokens(5).tolist()], max_new_tokens=12, temperature=0.0)
    ids = torch.tensor([tokens(5).tolist() + row.tokens])
    with torch.no_grad():
        logits = model(ids)[0, 4:-1]
    chosen = logits.gather(1, ids[0, 5:, None]).squeeze(1)
    assert float((logits.amax(1) - chosen).max()) <= 0.05 * float(logits.std())


@pytest.mark.parametrize("way", WAYS)
def test_a_saved_model_is_quantized_when_it_is_loaded(way: str, tmp_path: Path) -> None:
    small_model(dtype=torch.float32).save(tmp_path / "m")
    model, ids = hyena.load(tmp_path / "m"), tokens(2, 9)
    quantize_(model, WAYS[way], filter_fn=outside_filters)
    with torch.no_grad():
        assert torch.equal(model(ids), quantized(way)(ids))
    with pytest.raises(
        ValueError, match="to be a dense tensor, got Int8Tensor; gather, dequantise"
    ):
        model.save(tmp_path / "again")


@pytest.mark.parametrize("way", WAYS)
def test_quantized_weights_are_saved_by_pytorch(way: str, tmp_path: Path) -> None:
    model, ids = quantized(way), tokens(2, 9)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = LanguageModel(model.config, device="meta")
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    other.load_state_dict(weights, assign=True)
    with torch.no_grad():
        assert torch.equal(other.eval()(ids), model(ids))


def test_adapters_train_on_quantized_weights() -> None:
    with pytest.warns(UserWarning, match="merge.* will raise an error"):
        model: Any = get_peft_model(quantized("weights"), lora())
    model.train()(tokens(2, 9), targets=tokens(2, 9, seed=1)).backward()
    for name, parameter in model.named_parameters():
        assert ("lora_" in name) == parameter.requires_grad, name
        assert not parameter.requires_grad or parameter.grad.any(), name
    with pytest.raises(ValueError, match="was instantiated without `get_apply_tensor_subclass`"):
        model.merge_adapter()


@torch.no_grad()
def test_a_head_for_labels_is_called() -> None:
    model, ids, lengths = small_model(dtype=torch.float32), tokens(2, 9), torch.tensor([9, 6])
    model.label_head = LabelHead(12, Labels("classification", ("a", "b")))
    nn.init.normal_(model.label_head.linear.weight)
    expected = label_outputs(model, ids, lengths)
    other: Any = copy.deepcopy(model)
    quantize_(other, WAYS["weights"], filter_fn=outside_filters)
    assert isinstance(other.label_head.linear.weight, Int8Tensor)
    found: Tensor = label_outputs(other, ids, lengths)
    assert 0 < relative_error(found, expected) < 0.1
