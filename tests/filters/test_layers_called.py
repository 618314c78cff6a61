"""A filter's layers may be more than their matrices: then they are called, and trained as such."""

import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from hyena.filters import ExplicitTaps, HyenaFilter, LongFilter
from hyena.filters.plain import call_in
from hyena.mixers import HyenaOperator

D, M = 3, 16


class Adapted(nn.Module):
    """As LoRA wraps a layer."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.base = linear
        self.down = nn.Parameter(torch.randn(2, linear.in_features, dtype=linear.weight.dtype))
        self.up = nn.Parameter(torch.randn(linear.out_features, 2, dtype=linear.weight.dtype))
        self.scaling = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scaling * (x @ self.down.t() @ self.up.t())


def adapted(linear: nn.Linear) -> nn.Module:
    return Adapted(linear)


def in_a_container(linear: nn.Linear) -> nn.Module:
    return nn.Sequential(linear)


def hooked(linear: nn.Linear) -> nn.Module:
    linear.register_forward_hook(lambda module, inputs, output: 2 * output)
    return linear


def hooked_before(linear: nn.Linear) -> nn.Module:
    linear.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    return linear


def with_a_forward_of_its_own(linear: nn.Linear) -> nn.Module:
    plain = linear.forward
    linear.forward = lambda x: 3 * plain(x)  # type: ignore[method-assign]
    return linear


def pruned(linear: nn.Linear) -> nn.Module:
    return prune.l1_unstructured(linear, "weight", 0.4)


def weight_normalised(linear: nn.Linear) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is the older of PyTorch's two
        return weight_norm(linear)


def spectrally_normalised(linear: nn.Linear) -> nn.Module:
    return spectral_norm(linear).eval()  # in training each call moves its estimate on


def parametrised(linear: nn.Linear) -> nn.Module:
    return parametrizations.weight_norm(linear)


def with_a_bias(linear: nn.Linear) -> nn.Module:
    """The last has none of its own."""
    linear.bias = nn.Parameter(torch.randn(linear.out_features, dtype=linear.weight.dtype))
    return linear


CHANGES = [
    adapted,
    in_a_container,
    hooked,
    hooked_before,
    with_a_forward_of_its_own,
    pruned,
    weight_normalised,
    spectrally_normalised,
    parametrised,
    with_a_bias,
]
each_change = pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)


def changed(change: Callable[[nn.Linear], nn.Module], dtype: torch.dtype) -> HyenaFilter:
    filter = HyenaFilter(D, M, filters=2, emb_dim=5, width=6, dtype=dtype)
    for i, layer in enumerate(filter.layers):
        assert isinstance(layer, nn.Linear)
        filter.layers[i] = change(layer)
    return filter


def by_hand(filter: HyenaFilter, length: int) -> Tensor:
    """Eq. 7 of the paper, each layer called."""
    n = torch.arange(length, dtype=filter.skip.dtype)
    t, w = n / (M - 1), 2 * torch.pi * n / M
    x = torch.stack([t, (1e-4 * w).cos(), w.cos(), -(1e-4 * w).sin(), -w.sin()], dim=1)
    *inner, last = filter.layers
    for layer in inner:
        x = (filter.sine_freq * layer(x)).sin()
    h = last(x).t().reshape(2, D, length)
    return h * torch.exp(-t * filter.decay[..., None].abs())


@each_change
def test_equals_the_formula_with_layers_called(
    change: Callable[[nn.Linear], nn.Module],
) -> None:
    filter = changed(change, torch.float64)
    assert_close(filter(M), by_hand(filter, M), 1e-12)
    with torch.no_grad():
        assert_close(filter(7), by_hand(filter, 7), 1e-12)


@each_change
def test_every_parameter_of_a_layer_is_trained(change: Callable[[nn.Linear], nn.Module]) -> None:
    filter = changed(change, torch.float64)
    filter(M).square().sum().backward()
    for name, parameter in filter.layers.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


@each_change
def test_an_operator_reads_them_as_they_are_now(
    change: Callable[[nn.Linear], nn.Module], generator: torch.Generator
) -> None:
    filter = changed(change, torch.float64)
    op = HyenaOperator(D, M, 3, filter=filter, dtype=torch.float64).eval()
    u = torch.randn(2, M, D, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        before = op(u)
        for parameter in filter.layers.parameters():
            parameter.data.mul_(1.5)
        y = op(u)
        assert not torch.allclose(y, before)
        with torch.enable_grad():
            assert_close(y, op(u), 1e-12)
        first, state = op.prefill(u[:, :5])
        steps = []
        for t in range(5, M):
            step, state = op.step(u[:, t], state)
            steps.append(step)
        assert_close(torch.cat([first, torch.stack(steps, dim=1)], dim=1), y, 1e-12)


def test_an_adapter_may_be_switched_off_and_scaled(generator: torch.Generator) -> None:
    """Which no parameter shows."""
    filter = changed(adapted, torch.float64)
    op = HyenaOperator(D, M, 3, filter=filter, dtype=torch.float64).eval()
    u = torch.randn(2, M, D, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        seen = []
        for scaling in (1.0, 0.0, 2.0):
            for layer in filter.layers:
                assert isinstance(layer, Adapted)
                layer.scaling = scaling
            seen.append(op(u))
            with torch.enable_grad():  # for which nothing is kept
                assert_close(seen[-1], op(u), 1e-12)
            _, state = op.prefill(u[:, :-1], future=1)
            assert_close(op.step(u[:, -1], state)[0], seen[-1][:, -1], 1e-12)
    assert not torch.allclose(seen[0], seen[1])


def test_quantised_layers_are_called() -> None:
    filter = HyenaFilter(D, M, filters=2, emb_dim=5, width=6).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchao is to take its place
        quantised = torch.ao.quantization.quantize_dynamic(filter, {nn.Linear}, dtype=torch.qint8)
    assert not any(isinstance(layer, nn.Linear) for layer in quantised.layers)
    with torch.no_grad():
        assert_close(quantised(M), by_hand(quantised, M), 1e-2)
        assert_close(quantised(M), filter(M), 0.1)
        assert not torch.equal(quantised(M), filter(M))


def test_a_narrow_filter_is_computed_in_float32_all_the_same() -> None:
    filter = HyenaFilter(D, M, filters=2, emb_dim=5, width=6, dtype=torch.bfloat16)
    expected = filter(M)
    seen: list[torch.dtype] = []
    filter.layers[1].register_forward_hook(lambda module, inputs, y: seen.append(y.dtype))
    assert_close(filter(M), expected, 1e-6)
    assert seen == [torch.float32]
    assert filter.layers[1].weight.dtype == torch.bfloat16


def test_pruned_skips_and_taps_are_read_as_they_are_now(generator: torch.Generator) -> None:
    taps = ExplicitTaps(D, 5, dtype=torch.float64)
    filter = LongFilter(taps, D, M, dtype=torch.float64)
    op = HyenaOperator(D, M, filter=filter, dtype=torch.float64).eval()
    prune.random_unstructured(filter, "skip", 0.5)
    prune.random_unstructured(taps, "weight", 0.5)
    u = torch.randn(1, M, D, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in filter.named_parameters():
            assert name.endswith("_orig")
            parameter.data.mul_(2)
        state = op.prefill(u[:, :-1], future=1)[1]
        last = op.step(u[:, -1], state)[0]
        assert_close(last, op(u)[:, -1], 1e-12)
        prune.remove(filter, "skip")
        prune.remove(taps, "weight")
        assert_close(last, op(u)[:, -1], 1e-12)


def test_threads_that_call_a_layer_in_other_dtypes_leave_its_parameters() -> None:
    layer, x = nn.Linear(3, 2, dtype=torch.bfloat16), torch.randn(4, 3)
    inputs = [x, x.double()]
    before = dict(layer.named_parameters())
    together, first_is_out, calls = threading.Barrier(2), threading.Event(), count()

    def wait(*call: Any) -> None:
        second = next(calls) == 1
        with suppress(threading.BrokenBarrierError):  # where the other one has to wait outside
            together.wait(0.5)
        if second:
            first_is_out.wait(60)

    def call(x: Tensor) -> Tensor:
        y = call_in(layer, x)
        first_is_out.set()
        return y

    layer.register_forward_hook(wait)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(call, inputs)
    after = dict(layer.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert (one.dtype, other.dtype) == (torch.float32, torch.float64)
    assert_close(one, other, 1e-6, dtype=torch.float32)
