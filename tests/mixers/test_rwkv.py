"""RWKV's time mixing: all positions at once, one after the other, and as a softmax."""

import math

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients, with_module_gradients
from rival_definitions import rwkv
from rival_definitions import wkv as definition
from torch import Tensor

from hyena.mixers import RWKV
from hyena.mixers.rivals.rwkv import wkv, wkv_step
from hyena.mixers.rivals.scans.scan import EMPTY

D = 8


def make(dtype: torch.dtype = torch.float64) -> RWKV:
    op = RWKV(D, dtype=dtype)
    with torch.no_grad():  # keys that differ
        op.key.weight.mul_(3)
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def inputs(generator: torch.Generator, L: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys and values (2, L, 5), decays from none to that which leaves nothing, bonuses (5,)."""
    k, v = 2 * draw(generator, 2, L, 5), draw(generator, 2, L, 5)
    return k, v, torch.tensor([0, 0.01, 0.3, 3, 200]).double(), draw(generator, 5)


def sequentially(
    k: Tensor, v: Tensor, decay: Tensor, bonus: Tensor
) -> tuple[Tensor, list[list[Tensor]]]:
    nothing = torch.zeros_like(k[:, 0])
    sums, outputs, states = [nothing, nothing, torch.full_like(nothing, EMPTY)], [], []
    for t in range(k.shape[1]):
        y, *sums = wkv_step(k[:, t], v[:, t], decay, bonus, *sums)
        outputs.append(y)
        states.append(sums)
    return torch.stack(outputs, dim=1), states


@pytest.mark.parametrize("L", [2, 3, 9, 10, 50])
def test_all_at_once_is_one_after_the_other(L: int, generator: torch.Generator) -> None:
    arguments = inputs(generator, L)
    expected = with_gradients(lambda *x: sequentially(*x)[0], *arguments)
    got = with_gradients(lambda *x: wkv(*x)[0], *arguments)
    by_softmax = with_gradients(definition, *arguments)
    if L == 2:  # no weight has decayed yet
        for results in (got, expected, by_softmax):
            assert not results.pop(3).any()
    assert_all_close(got, expected, 1e-11)
    assert_all_close(got, by_softmax, 1e-11)


def test_the_sums_of_both_forms_are_equal(generator: torch.Generator) -> None:
    arguments = inputs(generator, 30)
    _, sums, exponents = wkv(*arguments)
    for t, state in enumerate(sequentially(*arguments)[1]):
        assert_close(exponents[:, t], state[2], 1e-13)
        assert_close(sums[0, :, t], state[0], 1e-12)
        assert_close(sums[1, :, t], state[1], 1e-12)


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_keys_of_any_size(size: float, generator: torch.Generator) -> None:
    k, v, decay, bonus = inputs(generator, 40)
    k = size * k
    expected = definition(k, v, decay, bonus)
    assert_close(wkv(k, v, decay, bonus)[0], expected, 1e-10)
    k, v, decay, bonus = k.float(), v.float(), decay.float(), bonus.float()
    expected = definition(k.double(), v.double(), decay.double(), bonus.double())
    y, sums, _ = wkv(k, v, decay, bonus)
    assert_close(y, expected, 1e-4, dtype=torch.float32)
    assert float(sums[1].min()) > 0.99  # the largest term is one


@pytest.mark.parametrize("L", [1, 2, 7, 16, 33])
def test_equals_the_definition_with_every_gradient(L: int, generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: rwkv(op, u), u)
    got = with_module_gradients(op, op, u)
    names = ["y", "u", *(name for name, _ in op.named_parameters())]
    for name, a, b in zip(names, got, expected, strict=True):
        if L > 2 or name in ("y", "u", "value.weight", "receptance.weight", "out_proj.weight"):
            assert_close(a, b, 1e-10)
        else:  # zero, or rounding
            assert float((a - b).norm()) < 1e-13


def test_initial_values_are_the_authors_for_a_middle_layer() -> None:
    op = RWKV(5, dtype=torch.float64)
    expected = torch.tensor([-5 + 8 * (i / 4) ** 1.35 for i in range(5)], dtype=torch.float64)
    assert_close(op.log_decay.detach(), expected, 1e-14)
    share = torch.tensor([(i / 5) ** 0.5 for i in range(5)], dtype=torch.float64)
    assert_close(op.mix_receptance.detach(), share**0.5, 1e-14)
    assert_close(op.mix_key.detach(), share, 1e-14)
    assert_close(op.mix_value.detach(), share + 0.15, 1e-14)
    low = math.log(0.3)
    expected = torch.tensor([low, low + 0.5, low - 0.5, low, low + 0.5], dtype=torch.float64)
    assert_close(op.bonus.detach(), expected, 1e-14)
    assert all(p.dtype == torch.float32 for p in RWKV(5).parameters())
    assert RWKV(1).log_decay.tolist() == [-5]
