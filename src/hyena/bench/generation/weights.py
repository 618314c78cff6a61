"""The weights of models that generate: in float32, or of fewer bits.

What a contender's name has after its first "_" says which: "hyena_bf16" has bfloat16 weights.
"""

from importlib.util import find_spec

import torch
from torch import Tensor

from hyena.bench.reference import BF16_TOLERANCE
from hyena.model import LanguageModel, outside_filters

# Of torchao, which rounds the weights of linear layers outside of filters.
_CONFIGS = {"int8": "Int8WeightOnlyConfig", "int8_dynamic": "Int8DynamicActivationInt8WeightConfig"}
TOLERANCES = {"bf16": BF16_TOLERANCE, "int8": 5e-2, "int8_dynamic": 1e-1}
"""Relative L2 errors of logits that models with such weights may show and still be timed."""


def weights_of(name: str) -> str:
    """Those that a contender's name says; empty for float32."""
    return name.partition("_")[2]


def why_not(name: str) -> str:
    """Why a contender's weights cannot be had, one line; empty if they can."""
    if weights_of(name) in _CONFIGS and find_spec("torchao") is None:
        return "needs the package torchao: pip install 'hyena[quantization]'"
    return ""


def narrowed(model: LanguageModel, weights: str) -> LanguageModel:
    """The model, changed to such weights. Raises: ValueError if there are no such."""
    if not weights:
        return model
    if weights == "bf16":
        return model.to(torch.bfloat16)
    if weights not in _CONFIGS:
        raise ValueError(f"weights are {', '.join(TOLERANCES)} or float32, but not {weights}")
    from torchao import quantization

    # Nothing is compiled here, so PyTorch's compiler keeps its settings.
    config = getattr(quantization, _CONFIGS[weights])(set_inductor_config=False)
    quantization.quantize_(model, config, filter_fn=outside_filters)
    return model


def bytes_of(weight: Tensor) -> int:
    """Of its numbers in memory, which are those of the tensors that it is made of."""
    if not hasattr(weight, "__tensor_flatten__"):
        return weight.nbytes
    names, _ = weight.__tensor_flatten__()
    return sum(bytes_of(getattr(weight, name)) for name in names)
