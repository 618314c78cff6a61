"""How often a step of training runs each part of a model: by hand, and as PyTorch's profiler sees
it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from hyena.mixers.hyena import groups
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.passes import step_flops

L = 64
FILTER = ("filter_network", "filter_values", "filter_fft")
CONVOLUTION = ("short_conv", "gates", "long_conv")
PRODUCTS = ("projections", "filter_network", "output", "mlp")
CONFIG = ModelConfig(
    vocab_size=16,
    width=32,
    layers=2,
    max_length=L,
    filter=FilterConfig(emb_dim=3, width=8, depth=3),
)


@pytest.fixture(autouse=True)
def _short_rows_go_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SHORTEST", L)


def made(checkpointing: bool = True, memory: int = 0, **changes: Any) -> LanguageModel:
    model = LanguageModel(replace(CONFIG, **changes), generator=torch.Generator().manual_seed(0))
    model.activation_checkpointing, model.working_memory = checkpointing, memory
    return model


def passes(model: LanguageModel, length: int = L, layer: int = 0) -> dict[str, float]:
    """How often each part of a layer runs."""
    once = model.flops(length).executed.layers[layer].parts
    found = step_flops(model, length).layers[layer].parts
    return {name: found[name] / count for name, count in once.items() if count}


def test_a_backward_pass_is_two_and_recomputed_blocks_run_once_more() -> None:
    assert set(passes(made(checkpointing=False)).values()) == {3}
    assert set(passes(made(memory=1 << 30)).values()) == {4}
    forward, step = made().flops(L, 3).executed, step_flops(made(), L, 3)
    assert (step.head, step.batch, step.length) == (3 * forward.head, 3, L)


def test_what_lies_before_the_convolutions_is_made_once_more_in_pieces() -> None:
    found = passes(made())
    assert {name for name, times in found.items() if times == 5} == {"projections", *FILTER}
    assert {name for name, times in found.items() if times == 4} == {*CONVOLUTION, "output", "mlp"}
    found = passes(made(order=3))
    again = {"projections", *FILTER, *CONVOLUTION}
    assert {name for name, times in found.items() if times == 5} == again


@pytest.mark.parametrize(
    ("changes", "length"),
    [({"dropout": 0.1}, L), ({"mixers": "attention", "head_dim": 8}, L), ({}, L - 1)],
)
def test_some_blocks_go_back_whole(changes: dict[str, Any], length: int) -> None:
    assert set(passes(made(**changes), length).values()) == {4}


def test_attention_s_pairs_in_the_future_count_as_often_as_the_others() -> None:
    hybrid = made(mixers="hyena,attention", head_dim=8)
    forward, step = hybrid.flops(L).executed, step_flops(hybrid, L)
    assert step.total - step.causal == 4 * (forward.total - forward.causal)
    assert set(passes(hybrid, layer=1).values()) == {4}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize(
    ("checkpointing", "memory"), [(False, 1 << 30), (True, 1 << 30), (True, 0)]
)
def test_products_of_matrices_are_as_many_as_the_profiler_sees(
    order: int, checkpointing: bool, memory: int
) -> None:
    model = made(checkpointing, memory, order=order).train()
    ids = torch.randint(16, (1, L), generator=torch.Generator().manual_seed(0))
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True
    ) as profiler:
        model(ids, targets=ids).backward()
    kinds = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
    seen = sum(event.flops or 0 for event in profiler.events() if event.name in kinds)
    step = step_flops(model, L)
    counted = sum(layer.parts[name] for layer in step.layers for name in PRODUCTS) + step.head
    # But for the gradient of the encoding of positions, which nobody wants.
    assert seen == pytest.approx(counted, rel=0.02)
