"""A step of all blocks in one call of the kernel is what the blocks give one by one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import small_model, tokens
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hyena.model import FilterConfig, LanguageModel
from hyena.model import language_model as of_model
from hyena.model.block import Block
from hyena.model.mlp import GatedMLP
from hyena.model.norm import RMSNorm
from hyena.ops.native import library

LENGTH = 24
FILTERS = {"hyena": FilterConfig(emb_dim=5, width=6), "s4d": FilterConfig(kind="s4d")}
# Of forward in the same dtype. Measured: 6e-7 (by the builds for AVX2 and for any processor, on
# another machine, 5.7e-6), 1.3e-2 and 1.8e-3.
BOUND = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


@pytest.fixture(params=library.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each build that can run here."""
    with library.use(request.param):
        yield request.param


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each step, whether it was one call."""
    found: list[bool] = []
    real = of_model.at_once

    def spy(*arguments: Any) -> Tensor | None:
        y = real(*arguments)
        found.append(y is not None)
        return y

    monkeypatch.setattr(of_model, "at_once", spy)
    return found


def steps(model: LanguageModel, ids: Tensor, known: int) -> Tensor:
    """Logits of a step for each token but the ``known`` first."""
    _, state = model.prefill(ids[:, :known])
    found = []
    for t in range(known, ids.shape[1]):
        y, state = model.step(ids[:, t], state)
        found.append(y)
    assert state.whole
    assert state.length == ids.shape[1]
    return torch.stack(found, dim=1)


needs_kernel = pytest.mark.skipif(library.kernel() is None, reason="needs the native kernel")


@needs_kernel
@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize(("B", "order"), [(1, 2), (3, 3), (8, 4)])
@torch.no_grad()
def test_it_is_the_forward_pass(
    B: int, order: int, kind: str, dtype: torch.dtype, isa: str, taken: list[bool]
) -> None:
    model = small_model(dtype=dtype, order=order, filter=FILTERS[kind])
    ids = tokens(B, LENGTH)
    got = steps(model, ids, 5)
    assert taken == [True] * (LENGTH - 5)
    assert_close(got, model(ids)[:, 5:], BOUND[dtype])


def hook(module: nn.Module) -> None:
    module.register_forward_hook(lambda module, inputs, output: 1.5 * output)


class Halved(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight / 2


CHANGES: dict[str, Callable[[LanguageModel], object]] = {
    "hook on a norm": lambda model: hook(model.blocks[1].norm1),
    "hook on the MLP": lambda model: hook(model.blocks[1].mlp),
    "hook on a layer of the MLP": lambda model: hook(model.blocks[2].mlp.down),
    "hook on a projection": lambda model: hook(model.blocks[0].mixer.out_proj),
    "parametrized": lambda model: parametrize.register_parametrization(
        model.blocks[2].mlp.up, "weight", Halved()
    ),
    "a norm of another kind": lambda model: setattr(
        model.blocks[1], "norm2", nn.RMSNorm(12, dtype=torch.float32)
    ),
    "an RMS norm": lambda model: setattr(model.blocks[0], "norm1", RMSNorm(12)),
    "a gated MLP": lambda model: setattr(model.blocks[1], "mlp", GatedMLP(12, 20)),
    "another activation": lambda model: setattr(model.blocks[2].mlp, "activation", "silu"),
    "float64": lambda model: model.double(),
    "autocast": lambda model: None,
}


@needs_kernel
@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_it_steps_aside(change: str, taken: list[bool]) -> None:
    model, ids = small_model(dtype=torch.float32), tokens(2, 9)
    CHANGES[change](model)
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        got, expected = steps(model, ids, 5), model(ids)[:, 5:]
    assert taken == [False] * 4
    assert_close(got, expected, 3e-2 if change == "autocast" else 1e-5)


@needs_kernel
@torch.no_grad()
def test_weights_and_hooks_that_come_between_two_steps_count(taken: list[bool]) -> None:
    model, token = small_model(dtype=torch.float32), tokens(1)
    _, state = model.prefill(tokens(1, 5))
    block = model.blocks[1]
    changes: list[Callable[[], object]] = [
        lambda: block.norm2.weight.mul_(2),
        lambda: setattr(block.mlp.up, "weight", nn.Parameter(2 * block.mlp.up.weight)),
        lambda: setattr(block.mlp, "down", nn.Linear(20, 12)),
        lambda: hook(block.mlp.up),
    ]
    before = model.step(token, state.copy())[0]
    for change in changes:
        change()
        after = model.step(token, state.copy())[0]
        assert not torch.equal(before, after)
        before = after
        with library.use("none"):
            assert_close(after, model.step(token, state.copy())[0], 1e-5)
    with_kernel = [taken[0], *taken[1::2]]
    assert with_kernel == [True, True, True, True, False]


@needs_kernel
@torch.no_grad()
def test_dropout_in_training_is_not_forgotten(taken: list[bool]) -> None:
    model = small_model(dtype=torch.float32, dropout=0.5).train()
    _, state = model.prefill(tokens(1, 5))
    first, second = (model.step(tokens(1), state.copy())[0] for _ in range(2))
    assert not torch.equal(first, second)
    assert taken == [False, False]


@torch.no_grad()
def test_a_plan_that_ends_leaves_the_state_as_it_was() -> None:
    model, ids = small_model(dtype=torch.float32), tokens(2, 9)
    _, state = model.prefill(ids[:, :5], future=1)
    _, state = model.step(ids[:, 5], state)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"tokens that were planned for have come"):
            model.step(ids[:, 6], state)
    assert [layer.length for layer in state.layers] == [6, 6, 6]
    assert state.whole


@needs_kernel
@torch.no_grad()
def test_other_mixers_have_the_rest_of_a_block_in_one_call(
    isa: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    kernel = library.loaded()
    real = kernel.blocks

    def count(blocks: object, number: int, x: int) -> int:
        calls.append(number)
        return real(blocks, number, x)

    monkeypatch.setitem(kernel.__dict__, "blocks", count)
    model, ids = small_model("hyena,attention", dtype=torch.float32, layers=2), tokens(2, 9)
    assert_close(steps(model, ids, 5), model(ids)[:, 5:], 1e-5)
    assert taken == [False] * 4
    assert calls == [1] * 8


def test_a_model_of_several_mixers_asks_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = small_model("hyena,hyena,attention", dtype=torch.float32), tokens(1, 5)
    with torch.no_grad():
        _, state = model.prefill(ids)
        x = model.embedding(ids[:, 0])
        monkeypatch.setattr(Block, "plain_layers", lambda block: pytest.fail("asked"))
        assert of_model.at_once(list(model.blocks), x, state) is None


def test_where_a_gradient_would_be_recorded_both_ways_say_the_same() -> None:
    mixer: Any = small_model(dtype=torch.float32).blocks[0].mixer
    with torch.no_grad():
        _, state = mixer.prefill(torch.ones(1, 3, 12), future=2)
    for call in (mixer.step, mixer.pending):
        with pytest.raises(ValueError, match=r"^HyenaOperator\.step: generation records no grad"):
            call(torch.ones(1, 12), state)
