"""Linear layers between channels last and channels first against `torch.nn.Linear`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from hyena.mixers.projections import (
    SHORT,
    apply_linear,
    channels_first,
    channels_last,
    is_written_out,
    layers_of_step,
    may_write_out,
)
from hyena.ops.native import library
from hyena.ops.native.operator import dtype_of_product, in_workspace

D, C = 6, 10
SIZES = [(1, 1), (1, 7), (3, 1), (5, 7), (3, SHORT), (2, 40), (1, 256), (3, 4096)]  # B, L


def layer(dtype: torch.dtype = torch.float64) -> nn.Linear:
    return nn.Linear(D, C, dtype=dtype)


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def with_layer(layer: nn.Linear, op: Callable[..., Tensor], u: Tensor) -> list[Tensor]:
    """op(layer, u) with the gradients of u, weight and bias."""

    def f(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        names = {"weight": weight, "bias": bias}
        return torch.func.functional_call(
            Call(layer, op), {f"layer.{n}": p for n, p in names.items()}, u
        )

    return with_gradients(f, u, layer.weight.detach(), layer.bias.detach())


class Call(nn.Module):
    def __init__(self, layer: nn.Linear, op: Callable[..., Tensor]) -> None:
        super().__init__()
        self.layer, self.op = layer, op

    def forward(self, u: Tensor) -> Tensor:
        return self.op(self.layer, u)


@pytest.mark.parametrize(("B", "L"), SIZES)
def test_channels_first(B: int, L: int, generator: torch.Generator) -> None:
    linear, u = layer(), draw(generator, B, L, D)
    expected = with_layer(linear, lambda linear, u: linear(u).transpose(1, 2), u)
    assert_all_close(with_layer(linear, channels_first, u), expected, 1e-14)
    z = channels_first(linear, u)
    assert L == 1 or z.stride(-1) == 1
    with torch.no_grad():
        assert_close(in_workspace(u, linear.weight) + linear.bias[:, None], z, 1e-14)


@pytest.mark.parametrize(("B", "L"), SIZES)
def test_channels_last(B: int, L: int, generator: torch.Generator) -> None:
    linear, y = layer(), draw(generator, B, D, L)
    expected = with_layer(linear, lambda linear, y: linear(y.transpose(1, 2)), y)
    assert_all_close(with_layer(linear, channels_last, y), expected, 1e-14)


@pytest.mark.parametrize("op", [channels_first, channels_last])
def test_any_strides(op: Callable[..., Tensor], generator: torch.Generator) -> None:
    linear = layer()
    u = draw(generator, 3, 20, D) if op is channels_first else draw(generator, 3, D, 20)
    expected = with_layer(linear, op, u)
    for v in (
        u.transpose(0, 1).contiguous().transpose(0, 1),
        u.transpose(1, 2).contiguous().transpose(1, 2),
        u.repeat_interleave(2, -1)[..., ::2],
    ):
        leaf = v.requires_grad_()
        y = op(linear, leaf)
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
        strided = dy.transpose(0, 2).contiguous().transpose(0, 2)
        got = torch.autograd.grad(y, [leaf, linear.weight, linear.bias], strided)
        assert_all_close([y, *got], expected, 1e-14)
    constant = torch.ones((), dtype=y.dtype).expand(y.shape)
    leaf = u.detach().requires_grad_()
    [got_sum] = torch.autograd.grad(op(linear, leaf), leaf, constant)
    [wanted] = torch.autograd.grad(op(linear, leaf).sum(), leaf)
    assert_close(got_sum, wanted, 1e-14)


@pytest.mark.parametrize("op", [channels_first, channels_last])
@pytest.mark.parametrize("L", [2, SHORT + 1])
def test_first_and_second_derivatives(
    L: int, op: Callable[..., Tensor], generator: torch.Generator
) -> None:
    linear = nn.Linear(2, 3, dtype=torch.float64)
    u = draw(generator, 2, *((L, 2) if op is channels_first else (2, L))).requires_grad_()

    def f(u: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        values = {"layer.weight": weight, "layer.bias": bias}
        return torch.func.functional_call(Call(linear, op), values, u)

    assert torch.autograd.gradcheck(f, (u, linear.weight, linear.bias))
    assert torch.autograd.gradgradcheck(f, (u, linear.weight, linear.bias))


@pytest.mark.parametrize("op", [channels_first, channels_last])
@pytest.mark.parametrize("frozen", ["weight", "bias", "input"])
def test_only_the_gradients_that_are_asked_for(
    frozen: str, op: Callable[..., Tensor], generator: torch.Generator
) -> None:
    linear = layer()
    u = draw(generator, 2, 6, 6).requires_grad_(frozen != "input")
    if frozen != "input":
        getattr(linear, frozen).requires_grad_(False)
    op(linear, u).sum().backward()
    for name, x in (("weight", linear.weight), ("bias", linear.bias), ("input", u)):
        assert (x.grad is None) == (name == frozen)


@pytest.mark.cpu
@pytest.mark.parametrize("op", [channels_first, channels_last])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_autocast(
    wide: torch.dtype, dtype: torch.dtype, op: Callable[..., Tensor], generator: torch.Generator
) -> None:
    """The dtypes are those of a linear layer under autocast, which leaves float64 alone."""
    linear, u = layer(wide), draw(generator, 2, 6, 6, dtype=wide)

    def expected(u: Tensor) -> Tensor:
        if op is channels_first:
            return linear(u).transpose(1, 2)
        return linear(u.transpose(1, 2))

    tolerance = {torch.bfloat16: 1e-2, torch.float16: 2e-3}[dtype]
    with torch.autocast("cpu", dtype):
        assert_all_close(
            with_gradients(lambda u: op(linear, u), u), with_gradients(expected, u), tolerance
        )
        if op is channels_first:
            with torch.no_grad():
                z = in_workspace(u, linear.weight)
                assert z.dtype == expected(u).dtype
                assert_close(z + linear.bias[:, None].to(z.dtype), expected(u), tolerance)
                assert torch.is_autocast_enabled("cpu")


def lora(linear: nn.Linear) -> nn.Module:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = linear
            self.low = nn.Linear(linear.in_features, 2, bias=False, dtype=linear.weight.dtype)
            self.high = nn.Linear(2, linear.out_features, bias=False, dtype=linear.weight.dtype)

        def forward(self, u: Tensor) -> Tensor:
            return self.base(u) + self.high(self.low(u))

    return Adapted()


def without_bias(linear: nn.Linear) -> nn.Module:
    return nn.Linear(linear.in_features, linear.out_features, bias=False, dtype=linear.weight.dtype)


def with_forward_hook(linear: nn.Linear) -> nn.Module:
    linear.register_forward_hook(lambda module, inputs, output: 2 * output)
    return linear


def with_pre_hook(linear: nn.Linear) -> nn.Module:
    linear.register_forward_pre_hook(lambda module, inputs: (3 * inputs[0],))
    return linear


def with_weight_norm(linear: nn.Linear) -> nn.Module:
    return parametrizations.weight_norm(linear)


def with_another_forward(linear: nn.Linear) -> nn.Module:
    linear.forward = lambda u: F.linear(u, linear.weight) + 7  # type: ignore[method-assign]
    return linear


class Scaled(nn.Linear):
    def forward(self, u: Tensor) -> Tensor:
        return 5 * super().forward(u)


def of_a_class_of_its_own(linear: nn.Linear) -> nn.Module:
    return Scaled(linear.in_features, linear.out_features, dtype=linear.weight.dtype)


class Strange(torch.Tensor):
    """A weight of its own kind, as quantised ones are."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            plain = [x.as_subclass(Tensor) if isinstance(x, Strange) else x for x in args]
            return 11 * func(*plain, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})


def with_a_strange_weight(linear: nn.Linear) -> nn.Module:
    strange = linear.weight.detach().as_subclass(Strange)
    linear.weight = nn.Parameter(strange, requires_grad=False)
    assert type(linear.weight) is not nn.Parameter
    return linear


CHANGES = [
    lora,
    without_bias,
    with_forward_hook,
    with_pre_hook,
    with_weight_norm,
    with_another_forward,
    of_a_class_of_its_own,
    with_a_strange_weight,
]


@pytest.mark.parametrize("op", [channels_first, channels_last])
@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_whatever_stands_for_the_layer_is_called(
    change: Callable[[nn.Linear], nn.Module], op: Any, generator: torch.Generator
) -> None:
    linear = change(layer())
    u = draw(generator, 2, 5, D)
    assert not may_write_out(linear, u)
    expected = linear(u)
    if op is channels_first:
        assert_close(op(linear, u).transpose(1, 2), expected, 1e-14)
    else:
        assert_close(op(linear, u.transpose(1, 2)), expected, 1e-14)


@pytest.mark.parametrize("op", [channels_first, channels_last])
def test_hooks_of_all_modules_are_called(
    op: Callable[..., Tensor], generator: torch.Generator
) -> None:
    linear, seen = layer(), []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(module)
    )
    try:
        op(linear, draw(generator, 2, 6, 6))
    finally:
        handle.remove()
    assert seen == [linear]
    op(linear, draw(generator, 2, 6, 6))
    assert seen == [linear]


def test_kept_memory_is_used_again_and_not_for_anything_else(generator: torch.Generator) -> None:
    linear = layer(torch.float32)
    u, v = draw(generator, 2, 50, D).float(), draw(generator, 1, 30, D).float()
    with torch.no_grad():
        first = in_workspace(u, linear.weight)
        place, kept = first.data_ptr(), first.clone()
        assert channels_first(linear, v).data_ptr() != place
        assert torch.equal(first, kept)
        expected = (v @ linear.weight.t()).transpose(1, 2)
        second = in_workspace(v, linear.weight)
        assert second.data_ptr() == place
        assert_close(second, expected, 1e-6)
        with torch.inference_mode():
            assert in_workspace(2 * v, linear.weight).data_ptr() == place
        assert_close(in_workspace(v, linear.weight), expected, 1e-6)
    linear.bfloat16()
    with torch.no_grad():
        assert in_workspace(v.bfloat16(), linear.weight).dtype == torch.bfloat16


def test_the_default_device_does_not_matter(generator: torch.Generator) -> None:
    linear, u = layer(), draw(generator, 2, 5, D)
    expected = channels_first(linear, u)
    with torch.device("meta"):
        assert torch.equal(channels_first(linear, u), expected)
        with torch.no_grad():
            z = in_workspace(u, linear.weight)
        assert_close(z + linear.bias[:, None], expected, 1e-14)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("B", [0, 1, 3, 8, 9])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_the_layers_of_a_step(
    B: int, bias: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    linear = nn.Linear(D, C, bias=bias, dtype=dtype)
    u = draw(generator, B, D, dtype=dtype)
    native = library.kernel() is not None and dtype != torch.float64 and B <= 8
    assert (layers_of_step(linear, linear, u) is not None) == (dtype != torch.float64 and B <= 8)
    found = apply_linear(linear, u)
    assert found.dtype == dtype
    assert_close(found, linear(u), {torch.bfloat16: 1e-2, torch.float16: 1e-3}.get(dtype, 1e-6))
    calls: list[Tensor] = []
    handle = linear.register_forward_hook(lambda *call: calls.append(call[2]))
    assert torch.equal(apply_linear(linear, u), linear(u))
    assert len(calls) == 2
    handle.remove()
    if native and B:  # the same number whatever stands beside it
        assert torch.equal(apply_linear(linear, u[:1]), found[:1])
    with library.use("none") if library.kernel() is not None else torch.no_grad():
        assert torch.equal(apply_linear(linear, u), linear(u))


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
@torch.no_grad()
def test_whatever_stands_for_a_layer_of_a_step_is_called(
    change: Callable[[nn.Linear], nn.Module], generator: torch.Generator
) -> None:
    linear, u = change(layer(torch.float32)), draw(generator, 2, D, dtype=torch.float32)
    if change is not without_bias:
        assert layers_of_step(linear, linear, u) is None
    assert_close(apply_linear(linear, u), linear(u), 1e-6)


def test_a_step_has_the_gradients_of_the_layer(generator: torch.Generator) -> None:
    linear, u = layer(torch.float32), draw(generator, 2, D, dtype=torch.float32)
    expected = with_layer(linear, lambda linear, u: linear(u), u)
    assert_all_close(with_layer(linear, apply_linear, u), expected, 0)


@torch.no_grad()
def test_weights_that_change_between_steps(generator: torch.Generator) -> None:
    linear, u = layer(torch.float32), draw(generator, 1, D, dtype=torch.float32)
    for _ in range(2):
        assert_close(apply_linear(linear, u), linear(u), 1e-6)
        linear.weight.mul_(2)
        assert_close(apply_linear(linear, u), linear(u), 1e-6)
        linear.weight.data = 3 * linear.weight.data
        assert_close(apply_linear(linear, u), linear(u), 1e-6)
        linear.weight.data = linear.weight.data.t().contiguous().t()
        assert_close(apply_linear(linear, u), linear(u), 1e-6)
        linear.weight = nn.Parameter(-linear.weight)
        assert_close(apply_linear(linear, u), linear(u), 1e-6)
        linear.bfloat16()
        u = u.bfloat16()
        assert_close(apply_linear(linear, u), linear(u), 1e-2)
        linear.float()
        u = u.float()


@torch.no_grad()
def test_what_a_layer_refuses_a_step_refuses(generator: torch.Generator) -> None:
    linear = layer(torch.float32)
    with pytest.raises(RuntimeError, match="same dtype"):
        apply_linear(linear, draw(generator, 2, D))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        apply_linear(linear, draw(generator, 2, D + 1, dtype=torch.float32))


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_step_under_autocast(dtype: torch.dtype, generator: torch.Generator) -> None:
    linear, u = layer(torch.float32), draw(generator, 2, D, dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        assert torch.equal(apply_linear(linear, u), linear(u))


def test_products_are_in_the_dtype_of_their_own_device() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert dtype_of_product(torch.ones(1)) == torch.bfloat16
        assert dtype_of_product(torch.ones(1, dtype=torch.float64)) == torch.float64
        assert dtype_of_product(torch.ones(1, device="meta")) == torch.float32
    assert dtype_of_product(torch.ones(1)) == torch.float32


@pytest.mark.parametrize(("B", "L"), SIZES)
def test_channels_first_without_a_bias(B: int, L: int, generator: torch.Generator) -> None:
    linear = nn.Linear(D, C, bias=False, dtype=torch.float64)
    assert is_written_out(linear, draw(generator, B, L, D))
    assert not may_write_out(linear, draw(generator, B, L, D))
    u = draw(generator, B, L, D)

    def f(u: Tensor, weight: Tensor) -> Tensor:
        call = Call(linear, channels_first)
        return torch.func.functional_call(call, {"layer.weight": weight}, u)

    def expected(u: Tensor, weight: Tensor) -> Tensor:
        return weight @ u.transpose(1, 2)

    weight = linear.weight.detach()
    assert_all_close(with_gradients(f, u, weight), with_gradients(expected, u, weight), 1e-14)
