"""PEFT's other methods on a language model: what they train counts in every pass."""

import copy
from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from peft import (
    AdaLoraConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    TrainableTokensConfig,
    get_peft_model,
)
from small_models import STRIPES, small_model, tokens
from test_lora import continued

from hyena.model import PROJECTIONS

MODELS: list[dict[str, Any]] = [{"mixers": "hyena"}, {"mixers": "hyena,attention", **STRIPES}]
TRAINED = {"target_modules": PROJECTIONS}
METHODS: dict[str, PeftConfig] = {
    "rsLoRA": LoraConfig(r=2, use_rslora=True, **TRAINED),
    "DoRA": LoraConfig(r=2, use_dora=True, **TRAINED),
    "DoRA of the embedding": LoraConfig(r=2, use_dora=True, target_modules=["embedding"]),
    "biases too": LoraConfig(r=2, bias="all", **TRAINED),
    "norms as they are": LoraConfig(
        r=2, modules_to_save=["norm", "norm1", "norm2", "short_conv"], **TRAINED
    ),
    "LayerNorm tuning": LNTuningConfig(target_modules=["norm", "norm1", "norm2"]),
    "IA3": IA3Config(target_modules=PROJECTIONS, feedforward_modules=["down"]),
    "AdaLoRA": AdaLoraConfig(init_r=2, target_r=1, total_step=10, **TRAINED),
    "LoHa": LoHaConfig(r=2, **TRAINED),
    "OFT": OFTConfig(oft_block_size=4, **TRAINED),
    "some tokens": TrainableTokensConfig(token_indices=[6, 11], target_modules=["embedding"]),
}


@pytest.mark.filterwarnings("ignore:Unsupported layer type .*Norm:UserWarning")  # of their sizes
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "settings", [{"mixers": "hyena"}, {"mixers": "hyena,attention", **STRIPES}]
)
def test_what_is_trained_counts_in_every_pass(method: str, settings: dict[str, Any]) -> None:
    base, ids = small_model(**settings), tokens(2, 13)
    model: Any = get_peft_model(copy.deepcopy(base), copy.deepcopy(METHODS[method]))
    with torch.no_grad():
        assert_close(model(ids), base(ids), 1e-6)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        expected = model.eval()(ids)
        assert relative_error(base(ids), expected) > 1e-3
        assert_close(continued(model, ids, 5), expected, 1e-10)
    model(ids, targets=ids.roll(-1, 1)).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert bool(parameter.grad.any()), name
    with torch.no_grad():
        whole = model.merge_and_unload()
        assert_close(whole(ids), expected, 1e-10)
        assert_close(continued(whole, ids, 5), expected, 1e-9)
