"""The whole model is its definition, whatever its norms, MLPs, activations and head."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from model_definition import logits
from small_models import STRIPES, small_model, tokens

from hyena.model import FilterConfig

MIXERS = ["hyena", "attention", "hyena,hyena,attention"]
EXPLICIT = FilterConfig(kind="explicit", taps=7)
OPTIONS: dict[str, dict[str, Any]] = {
    "as they were": {},
    "striped": STRIPES,
    "untied": {"tied": False},
    "norms": {"norm": "rms"},
    "epsilon": {"norm_eps": 0.5},
    "epsilon of rms": {"norm": "rms", "norm_eps": 0.5},
    "gated": {"mlp": "gated"},
    "exact": {"activation": "gelu"},
    "a list": {"activation": "silu, identity,gelu-tanh,gelu"},
    "one after another": {"mlp": "gated", "activation": "gelu,identity"},
}


@pytest.mark.parametrize("mixers", MIXERS)
@pytest.mark.parametrize("options", OPTIONS)
@torch.no_grad()
def test_logits_are_those_of_the_definition(mixers: str, options: str) -> None:
    model, ids = small_model(mixers, filter=EXPLICIT, **OPTIONS[options]), tokens(2, 13)
    expected = torch.stack([logits(model.config, model.state_dict(), row) for row in ids])
    assert_close(model(ids), expected, 1e-12)


@pytest.mark.parametrize(
    ("name", "other"), [("norm_eps", 1e-5), ("activation", "gelu"), ("tied", True)]
)
@torch.no_grad()
def test_the_definition_reads_each_option(name: str, other: object) -> None:
    """Else both could leave it out."""
    model, ids = small_model(filter=EXPLICIT, **STRIPES), tokens(13)
    expected, changed = model(ids[None])[0], replace(model.config, **{name: other})
    assert relative_error(logits(changed, model.state_dict(), ids), expected) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_in_narrow_numbers(dtype: torch.dtype) -> None:
    model, ids = small_model(MIXERS[2], dtype, filter=EXPLICIT, **STRIPES), tokens(2, 13)
    expected = torch.stack([logits(model.config, model.state_dict(), row) for row in ids])
    bound = 1e-5 if dtype == torch.float32 else 0.05
    assert_close(model(ids).double(), expected, bound)
