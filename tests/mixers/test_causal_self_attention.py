"""Attention against its definition, and what it promises beyond that."""

from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_definitions import rotary_attention
from torch import Tensor

from hyena.mixers import CausalSelfAttention
from hyena.mixers.attention.rotary import Turns

D = 8


def make(
    head_dim: int = 4, *, dtype: torch.dtype = torch.float64, **options: Any
) -> CausalSelfAttention:
    op = CausalSelfAttention(D, head_dim=head_dim, dtype=dtype, **options)
    with torch.no_grad():  # scores that differ: as initialised every token looks everywhere alike
        op.in_proj.weight.mul_(3)
        op.out_proj.bias.zero_()
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("base", [10000.0, 10.0])
@pytest.mark.parametrize("head_dim", [2, 4, 8])
@pytest.mark.parametrize("L", [1, 2, 7, 33])
def test_equals_the_definition_with_every_gradient(
    L: int, head_dim: int, base: float, generator: torch.Generator
) -> None:
    op, u = make(head_dim, rotary_base=base), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: rotary_attention(op, u), u)
    assert_all_close(with_module_gradients(op, op, u), expected, 1e-12)


@pytest.mark.parametrize("L", [1, 2, 7, 33])
def test_without_rotation_equals_the_definition_too(L: int, generator: torch.Generator) -> None:
    op, u = make(rotary=False), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: rotary_attention(op, u), u)
    assert_all_close(with_module_gradients(op, op, u), expected, 1e-12)


def test_without_rotation_the_order_of_the_past_is_unknown(generator: torch.Generator) -> None:
    op, u = make(rotary=False), draw(generator, 1, 10, D)
    swapped = u[:, [1, 0, *range(2, 10)]]
    assert_close(op(swapped)[:, 2:], op(u)[:, 2:], 1e-12)
    with torch.no_grad():
        _, state = op.prefill(u[:, :-1])
        _, other = op.prefill(swapped[:, :-1])
        assert_close(op.step(u[:, -1], state)[0], op(u)[:, -1], 1e-12)
        assert_close(op.step(u[:, -1], other)[0], op(u)[:, -1], 1e-12)


def test_the_order_of_the_past_matters(generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 1, 10, D)
    swapped = u[:, [1, 0, *range(2, 10)]]
    assert not torch.allclose(op(swapped)[:, -1], op(u)[:, -1], rtol=1e-6)


def test_scores_depend_on_the_distance_only(generator: torch.Generator) -> None:
    x, y = draw(generator, 1, 1, 4), draw(generator, 1, 1, 4)
    turns = Turns(1008, make().rotary_base, x)

    def score(i: int, j: int) -> Tensor:
        return (turns.turn(x, i) * turns.turn(y, j)).sum()

    assert_close(score(1007, 1003), score(7, 3), 1e-11)
    assert_close(score(5, 5), (x * y).sum(), 1e-12)
    assert abs(float(score(7, 3) - score(3, 7))) > 1e-3


def test_the_default_head_dim() -> None:
    assert CausalSelfAttention(192).heads == 3
    assert CausalSelfAttention(32).head_dim == 32


def test_dropout_in_training_only(generator: torch.Generator) -> None:
    op, u = make(dropout=0.5), draw(generator, 2, 9, D)
    plain = make()
    plain.load_state_dict(op.state_dict())
    assert torch.equal(op.eval()(u), plain(u))
    op.train()
    assert not torch.equal(op(u), op(u))


@pytest.mark.parametrize(("width", "head_dim"), [(8, 3), (8, 16), (6, 4), (7, None)])
def test_sizes_that_do_not_divide(width: int, head_dim: int | None) -> None:
    got = width if head_dim is None else head_dim
    with pytest.raises(
        ValueError,
        match=(
            r"^CausalSelfAttention: expected an even head_dim that divides width, got "
            rf"width={width}, head_dim={got}$"
        ),
    ):
        CausalSelfAttention(width, head_dim=head_dim)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_a_dropout_that_is_none(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"^CausalSelfAttention: expected 0 ≤ dropout < 1, got "):
        CausalSelfAttention(8, dropout=dropout)
