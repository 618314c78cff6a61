"""Models whose filters have become constants."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, model_of, tokens

from hyena.export.constants import ConstantTaps, with_constant_filters
from hyena.model import FilterConfig

SMOOTH = {"emb_dim": 5, "width": 6, "sine_freq": 3.0}  # of rough filters float32 knows few digits
FILTERS: dict[str, dict[str, Any]] = {
    "hyena": SMOOTH,
    "normalized": {**SMOOTH, "normalized": True, "shift": 0.1},
    "trained encoding": {**SMOOTH, "train_encoding": True},
    "explicit": {"kind": "explicit", "taps": 9},
    "fourier": {"kind": "fourier", "modes": 8},
    "s4d": {"kind": "s4d", "state": 8},
    "transfer function": {"kind": "transfer-function", "degree": 5},
    "modal": {"kind": "modal", "modes": 3},
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_model_with_constant_filters_is_the_same(name: str) -> None:
    model = model_of("hyena", layers=1, filter=FilterConfig(**FILTERS[name]))
    constant = with_constant_filters(model, 97)
    kept = [type(part) for part in constant.modules() if isinstance(part, ConstantTaps)]
    assert bool(kept) == (name != "explicit")  # whose taps are few and end
    with torch.no_grad():
        for length in (1, 30, 97):
            ids = tokens(2, length)
            assert_close(constant(ids), model(ids), TOLERANCE)
    assert not any(isinstance(part, ConstantTaps) for part in model.modules())


@pytest.mark.parametrize("mixers", ["s4d", "h3", "gss", "hyena-se,hyena-mr,hyena-li"])
def test_so_is_one_of_other_mixers(mixers: str) -> None:
    model = model_of(mixers, layers=mixers.count(",") + 1)
    ids = tokens(2, 97)
    with torch.no_grad():
        assert_close(with_constant_filters(model, 97)(ids), model(ids), TOLERANCE)


def test_parameters_become_float32_without_the_model() -> None:
    model = model_of("hyena,attention").double()
    constant = with_constant_filters(model, 20)
    assert {p.dtype for p in constant.parameters()} == {torch.float32}
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    ids = tokens(2, 20)
    with torch.no_grad():
        assert_close(constant(ids), model(ids), TOLERANCE, dtype=torch.float32)
