"""In which dtypes the model works: a residual of float32 or wider, and float64 kept throughout."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import PATTERNS, STRIPES, small_model, tokens
from torch import Tensor, nn

from hyena.model import LanguageModel
from hyena.model.block import Block
from hyena.model.mlp import MLP, GatedMLP

KINDS: dict[str, dict[str, Any]] = {"plain": {}, "striped": STRIPES}
MLPS = (MLP, GatedMLP)


def output_dtypes(model: LanguageModel, kind: Any) -> set[torch.dtype]:
    """A set that fills with the dtypes of what modules of a kind return."""
    found: set[torch.dtype] = set()

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.add(output.dtype)

    for module in model.modules():
        if isinstance(module, kind):
            module.register_forward_hook(hook)
    return found


@pytest.mark.cpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("training", [True, False])
def test_under_autocast_the_residual_is_float32(mixers: str, kind: str, training: bool) -> None:
    model = small_model(mixers, torch.float32, **KINDS[kind]).train(training)
    ids = tokens(2, 16)
    exact = model(ids)
    residual, branch = output_dtypes(model, Block), output_dtypes(model, MLPS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids)
    assert residual == {torch.float32}
    assert branch == {torch.bfloat16}  # else autocast was not at work
    assert_close(logits.float(), exact, 0.05)
    logits.float().square().sum().backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_with_parameters_of_16_bits_the_residual_is_float32(
    mixers: str, kind: str, dtype: torch.dtype
) -> None:
    model, ids = small_model(mixers, torch.float32, **KINDS[kind]).to(dtype), tokens(2, 16)
    exact = small_model(mixers, torch.float32, **KINDS[kind])
    exact.load_state_dict(model.state_dict())  # the same rounded weights
    residual, branch = output_dtypes(model, Block), output_dtypes(model, MLPS)
    with torch.no_grad():
        logits = model(ids)
        assert_close(logits.float(), exact(ids), 0.05)
    assert (residual, branch, logits.dtype) == ({torch.float32}, {dtype}, dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_prefill_and_step_keep_the_residual_too(mixers: str, kind: str, dtype: torch.dtype) -> None:
    model, ids = small_model(mixers, torch.float32, **KINDS[kind]).to(dtype), tokens(2, 16)
    seen: list[torch.dtype] = []

    def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].dtype)

    for block in model.blocks:
        block.mlp.register_forward_pre_hook(hook)
    with torch.no_grad():
        whole = model(ids)
        logits, state = model.prefill(ids[:, :15])
        last, _ = model.step(ids[:, 15], state)
    assert set(seen) == {dtype}
    assert (logits.dtype, last.dtype) == (dtype, dtype)
    assert_close(logits, whole[:, :15], 0.05 if kind == "striped" else 0.02)
    assert_close(last, whole[:, 15], 0.05)


@pytest.mark.cpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("autocast", [False, True])
def test_float64_is_never_cast_down(mixers: str, kind: str, autocast: bool) -> None:
    model, ids = small_model(mixers, **KINDS[kind]), tokens(2, 16)
    every = output_dtypes(model, nn.Module)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(ids)
    assert every == {torch.float64}
    # Casting down anywhere would round the sum of two weights that float32 cannot tell apart.
    moved = small_model(mixers, **KINDS[kind])
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + 2.0**-40)
    change = (moved(ids) - logits).norm() / logits.norm()
    assert 2.0**-42 < change < 2.0**-30
