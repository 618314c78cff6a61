"""Encoders and attention with Hyena in place of attention, and masks in PyTorch's terms."""

import re

import pytest
import torch
from torch import Tensor, nn

from hyena.mixers import HyenaOperator
from hyena.mixers.replacing.multihead import MultiheadAttentionAdapter
from hyena.mixers.replacing.replace import replace_attention

WIDTH, HEADS, LENGTH = 8, 2, 12


def encoder(
    layers: int = 2, *, batch_first: bool = True, norm_first: bool = False, nested: bool = False
) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 16, dropout=0.0, batch_first=batch_first, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=nested)


def swapped(causal: bool = False, **options: bool) -> nn.TransformerEncoder:
    model = encoder(**options).double()
    replace_attention(model, LENGTH, causal=causal)
    return model


def adapter(
    causal: bool = False, *, batch_first: bool = True, max_length: int = LENGTH
) -> MultiheadAttentionAdapter:
    model = nn.ModuleDict({"mha": nn.MultiheadAttention(WIDTH, HEADS, batch_first=batch_first)})
    assert replace_attention(model, max_length, causal=causal) == ["mha"]
    mha = model["mha"].double()
    assert isinstance(mha, MultiheadAttentionAdapter)
    return mha


def source(batch: int = 3, length: int = LENGTH) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.float64)


def causal_mask(length: int = LENGTH) -> Tensor:
    """In PyTorch's terms: True where a position may not look."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


def as_float(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(mask, -torch.inf)


def padding(lengths: list[int], side: str) -> Tensor:
    """In PyTorch's terms: True at padding."""
    n = torch.arange(LENGTH)
    starts = {
        "right": lambda k: 0,
        "left": lambda k: LENGTH - k,
        "both": lambda k: (LENGTH - k) // 2,
    }
    real = [(starts[side](k) <= n) & (n < starts[side](k) + k) for k in lengths]
    return ~torch.stack(real)


def hyena_calls(model: nn.Module) -> list[int]:
    """A list that grows by one at each call of a Hyena operator in the model."""
    calls: list[int] = []
    for module in model.modules():
        if isinstance(module, HyenaOperator):
            forward = module.forward

            # Not a hook: a hook would itself keep TransformerEncoderLayer from its fused kernel.
            def counted(*args: object, forward=forward, **kwargs: object) -> Tensor:
                calls.append(1)
                return forward(*args, **kwargs)

            module.forward = counted
    return calls


def refuses(message: str) -> "pytest.RaisesExc[ValueError]":
    return pytest.raises(ValueError, match=f"^{re.escape(message)}$")
