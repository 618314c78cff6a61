"""Attention whose heads of queries share keys, with scaled positions, and without biases."""

from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import generate
from mixer_definitions import rotary_attention
from states import numbers_held
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers import AttentionState, CausalSelfAttention
from hyena.mixers.attention.rotary import Turns

D, E = 8, 2  # four heads of queries


def make(kv_heads: int | None, **options: Any) -> CausalSelfAttention:
    op = CausalSelfAttention(D, head_dim=E, kv_heads=kv_heads, dtype=torch.float64, **options)
    with torch.no_grad():  # scores that differ: as initialised every token looks everywhere alike
        op.in_proj.weight.mul_(3)
        op.out_proj.bias.zero_()
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ungrouped(op: CausalSelfAttention) -> CausalSelfAttention:
    """The same layer with a head of keys and values for each of queries."""
    same = make(None, rotary_scale=op.rotary_scale)
    q, k, v = op.in_proj.weight.split([D, op.kv_heads * E, op.kv_heads * E])
    biases = op.in_proj.bias.split([D, op.kv_heads * E, op.kv_heads * E])
    each = op.heads // op.kv_heads

    def repeated(x: Tensor) -> Tensor:
        return x.unflatten(0, (op.kv_heads, E)).repeat_interleave(each, 0).flatten(0, 1)

    with torch.no_grad():
        same.in_proj.weight.copy_(torch.cat([q, repeated(k), repeated(v)]))
        same.in_proj.bias.copy_(torch.cat([biases[0], *map(repeated, biases[1:])]))
        same.out_proj.load_state_dict(op.out_proj.state_dict())
    return same


@pytest.mark.parametrize("options", [{}, {"rotary_scale": 3.7, "bias": False}], ids=str)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("L", [1, 2, 7, 33])
def test_equals_the_definition_with_every_gradient(
    L: int, kv_heads: int, options: dict[str, Any], generator: torch.Generator
) -> None:
    op, u = make(kv_heads, **options), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: rotary_attention(op, u), u)
    assert_all_close(with_module_gradients(op, op, u), expected, 1e-12)


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_neighbouring_heads_of_queries_read_one_head_of_keys(
    kv_heads: int, generator: torch.Generator
) -> None:
    op, u = make(kv_heads), draw(generator, 2, 9, D)
    same = ungrouped(op)
    assert_close(op(u), same(u), 1e-12)
    ids = torch.tensor([[0] * 4 + [1] * 5, [0] * 9])
    assert_close(op(u, document_ids=ids), same(u, document_ids=ids), 1e-12)
    with torch.no_grad():
        for prompt in (1, 4, 9):
            assert_close(generate(op, u, prompt)[0], same(u), 1e-12)


def test_as_many_heads_of_keys_as_of_queries_are_the_default(generator: torch.Generator) -> None:
    plain, u = make(None), draw(generator, 2, 9, D)
    op = make(4, rotary_scale=1.0, bias=True)
    op.load_state_dict(plain.state_dict())
    assert torch.equal(op(u), plain(u))
    assert op.extra_repr() == plain.extra_repr() == "width=8, heads=4"
    assert make(2).extra_repr() == "width=8, heads=4, kv_heads=2"


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@torch.no_grad()
def test_the_state_holds_the_heads_of_keys_alone(kv_heads: int, generator: torch.Generator) -> None:
    op, u = make(kv_heads), draw(generator, 3, 6, D)
    _, state = op.prefill(u, future=5)
    assert state.sizes == (kv_heads, E)
    assert op.state_size(6, 5) == 2 * kv_heads * E * (6 + 5)
    assert numbers_held(state) == 3 * op.state_size(6, 5)
    stranger = make(1 if kv_heads > 1 else 2)
    for call in (lambda: stranger.step(u[:, 0], state), lambda: stranger.prefill(u, state=state)):
        with pytest.raises(ValueError, match="is that of a mixer of another kind or size"):
            call()


@torch.no_grad()
def test_generation_repeats_no_keys(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    op, u = make(1), draw(generator, 2, 9, D)
    expected, (_, state) = op(u), op.prefill(u[:, :3])
    heads: list[int] = []
    attention = F.scaled_dot_product_attention

    def watched(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        heads.extend([k.shape[1], v.shape[1]])
        return attention(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    y, state = op.prefill(u[:, 3:8], state=state)
    assert_close(y, expected[:, 3:8], 1e-12)
    assert_close(op.step(u[:, 8], state)[0], expected[:, 8], 1e-12)
    assert heads == [1] * 4


def test_positions_are_divided_by_the_scale(generator: torch.Generator) -> None:
    x = draw(generator, 1, 1, 6)
    scaled, plain = Turns(101, 50.0, x, scale=4.0), Turns(101, 50.0, x)
    for at in (0, 1, 25):
        assert_close(scaled.turn(x, 4 * at), plain.turn(x, at), 1e-12)
    assert_close(Turns(3, 50.0, x, 8, 4.0).turn(x, 0), plain.turn(x, 2), 1e-12)
    op, other = make(None, rotary_scale=4.0), make(None)
    other.load_state_dict(op.state_dict())
    u = draw(generator, 1, 9, D)
    assert not torch.allclose(op(u)[:, -1], other(u)[:, -1], rtol=1e-6)


@torch.no_grad()
def test_layers_of_another_scale_have_a_table_of_their_own(generator: torch.Generator) -> None:
    u = draw(generator, 1, 5, D)
    tables = []
    for scale in (1.0, 4.0):
        op = make(None, rotary_scale=scale)
        _, state = op.prefill(u[:, :4], future=4)
        assert_close(op.step(u[:, 4], state)[0], op(u)[:, 4], 1e-12)
        tables.append(state.turns)
    assert tables[0] is not tables[1]


def test_without_a_bias_the_output_keeps_its_own() -> None:
    op = make(2, bias=False)
    assert op.in_proj.bias is None
    assert {name: tuple(x.shape) for name, x in op.state_dict().items()} == {
        "in_proj.weight": ((4 + 2 * 2) * E, D),
        "out_proj.weight": (D, D),
        "out_proj.bias": (D,),
    }


def test_operations_by_hand() -> None:
    L, B = 4, 3
    layer = make(1).flops(L, B)
    assert layer.parts == {
        "projections": 2 * D * (D + 2 * E) * L * B,
        "rotation": 3 * (D + E) * L * B,
        "scores": 2 * D * L * L * B,
        "softmax": 3 * 4 * L * L * B,
        "values": 2 * D * L * L * B,
        "output": 2 * D * D * L * B,
    }


@pytest.mark.parametrize("kv_heads", [3, 8])
def test_heads_that_do_not_divide(kv_heads: int) -> None:
    with pytest.raises(
        ValueError,
        match=(
            "^CausalSelfAttention: expected kv_heads that divides heads, got heads=4, "
            rf"kv_heads={kv_heads}$"
        ),
    ):
        make(kv_heads)


@pytest.mark.parametrize("name", ["rotary_base", "rotary_scale"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_base_or_scale_that_is_none(name: str, value: float) -> None:
    with pytest.raises(
        ValueError, match=rf"^CausalSelfAttention: expected {name} above 0, got {value}$"
    ):
        make(None, **{name: value})
    with pytest.raises(ValueError, match=rf"expected a finite number as {name}, got nan$"):
        make(None, **{name: float("nan")})


@torch.no_grad()
def test_a_state_is_stored_and_taken_up_again(generator: torch.Generator) -> None:
    op, u = make(2, rotary_scale=4.0), draw(generator, 2, 7, D)
    _, state = op.prefill(u[:, :6])
    again = AttentionState.from_tensors(
        {name: x.clone() for name, x in state.tensors().items()}, state.settings()
    )
    assert torch.equal(op.step(u[:, 6], again)[0], op.step(u[:, 6], state)[0])


def test_angles_of_many_turns_are_right_in_float32(generator: torch.Generator) -> None:
    x = draw(generator, 1, 4, 64)
    for first in (0, 1_000_000):
        exact = Turns(4, 1e4, x, first).turn(x)
        rounded = Turns(4, 1e4, x.float(), first).turn(x.float())
        assert_close(rounded.double(), exact, 1e-6)
