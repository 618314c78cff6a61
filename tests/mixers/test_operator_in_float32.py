"""The Hyena operator in float32, through the native kernel where there is one, with and without
gradients: without, it works in memory that it keeps."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients, with_module_gradients
from mixer_definitions import hyena_operator
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hyena.mixers import HyenaOperator
from hyena.ops import backends

D, M = 8, 700

# Dynamo makes an instance of the autograd function, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


def make(order: int = 2, **options: Any) -> HyenaOperator:
    """In evaluation mode; without bias at the output, beside which the rest is small."""
    op = HyenaOperator(D, M, order, **options).eval()
    with torch.no_grad():
        op.out_proj.bias.zero_()
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def documents(B: int, L: int) -> Tensor:
    return torch.arange(L).div(90, rounding_mode="floor").expand(B, L)


def widened(op: HyenaOperator) -> HyenaOperator:
    """The same in float64, with the filter as float32 computes it."""
    wide = copy.deepcopy(op).double()
    narrow = op.two_sided_filter if op.bidirectional else op.filter
    filter = wide.two_sided_filter if op.bidirectional else wide.filter
    filter.forward = lambda length: narrow(length).double()  # type: ignore[method-assign]
    return wide


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize(("B", "L"), [(1, 1), (3, 5), (1, 40)])
def test_equals_the_definition(
    B: int, L: int, order: int, bidirectional: bool, generator: torch.Generator
) -> None:
    op, u = make(order, bidirectional=bidirectional), draw(generator, B, L, D)
    wide = widened(op)
    expected = with_gradients(lambda u: hyena_operator(wide, u), u.double())
    with torch.no_grad():
        assert_close(op(u), expected[0], 2e-6, dtype=torch.float32)
    assert_all_close(with_gradients(op.train(), u), expected, 2e-6, dtype=torch.float32)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize(("B", "L"), [(1, 1), (3, 100), (1, 384), (2, M)])
def test_the_same_with_and_without_gradients(
    B: int, L: int, order: int, bidirectional: bool, packed: bool, generator: torch.Generator
) -> None:
    op, u = make(order, bidirectional=bidirectional), draw(generator, B, L, D)
    same = make(order, bidirectional=bidirectional, backend="torch")
    same.load_state_dict(op.state_dict())
    options = {"document_ids": documents(B, L)} if packed else {}
    expected = op.train()(u, **options).detach()
    op.eval()
    with torch.no_grad():
        assert_close(op(u, **options), expected, 1e-6)
        if B == 1:
            options = {name: x.expand(2, L) for name, x in options.items()}
            assert_close(op(u.expand(2, L, D), **options)[1:], expected, 1e-6)
            options = {name: x[:1] for name, x in options.items()}
        strided = u.transpose(1, 2).contiguous().transpose(1, 2)
        assert_close(op(strided, **options), expected, 1e-6)
        assert_close(same(u, **options), expected, 2e-6)
    with torch.inference_mode():
        assert_close(op(u, **options), expected, 1e-6)


@pytest.mark.parametrize("order", [2, 3])
def test_results_are_the_callers(order: int, generator: torch.Generator) -> None:
    """No later call writes to what an earlier one returned, nor to its input."""
    op, other = make(order), make(order)
    u, v = draw(generator, 2, M, D), draw(generator, 2, M, D)
    before = u.clone()
    with torch.no_grad():
        first = op(u)
        kept = first.clone()
        second = op(v)
        other(v)
        op(u[:1, :50])
    assert torch.equal(first, kept)
    assert torch.equal(u, before)
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()
    first.zero_()
    with torch.no_grad():
        assert torch.equal(op(u), kept)


@pytest.mark.cpu
@pytest.mark.parametrize("order", [2, 3])
def test_several_threads_at_once(order: int, generator: torch.Generator) -> None:
    op = make(order)
    inputs = [draw(generator, 1, L, D) for L in (1, 60, 384, M)]

    def call(u: Tensor) -> Tensor:
        with torch.no_grad():
            return op(u)

    expected = [call(u) for u in inputs]
    op.filter.clear_cache()  # the spectra are computed by several at once, too
    with ThreadPoolExecutor(4) as pool:
        calls = [(i, pool.submit(call, inputs[i])) for _ in range(10) for i in range(4)]
        for i, found in calls:
            assert torch.equal(found.result(timeout=300), expected[i])


def test_modes_one_after_the_other(generator: torch.Generator) -> None:
    """Memory that was made in one of them serves the next."""
    u = draw(generator, 2, 300, D)
    expected = None
    for modes in (
        (torch.inference_mode, torch.no_grad, torch.enable_grad),
        (torch.no_grad, torch.inference_mode, torch.enable_grad, torch.no_grad),
    ):
        op = make()
        if expected is None:
            state = op.state_dict()
        op.load_state_dict(state)
        for length in (100, 300, 300):  # the memory grows
            for mode in modes:
                with mode():
                    y = op(u[:, :length])
                if length == 300:
                    expected = y.detach().clone() if expected is None else expected
                    assert_close(y.detach().clone(), expected, 1e-6)
    with torch.inference_mode():
        strange = u.clone()  # a tensor of inference mode, outside it
    with torch.no_grad():
        assert_close(op(strange), expected, 1e-6)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("L", [1, 2, 60, 500])
def test_prefill_and_steps(L: int, order: int, generator: torch.Generator) -> None:
    op, u = make(order), draw(generator, 2, L + 4, D)
    with torch.no_grad():
        whole = op(u)
        y, state = op.prefill(u[:, :L])
        kept = {name: x.clone() for name, x in state.tensors().items()}
        op(u)  # the state is not in memory that this works in
        assert all(torch.equal(x, kept[name]) for name, x in state.tensors().items())
        steps = [y]
        for t in range(L, L + 4):
            y, state = op.step(u[:, t], state)
            steps.append(y[:, None])
    assert_close(torch.cat(steps, 1), whole, 2e-6)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("B", [1, 3])
def test_autocast(B: int, order: int, dtype: torch.dtype, generator: torch.Generator) -> None:
    op, u = make(order), draw(generator, B, 400, D)
    tolerance = {torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
    with torch.no_grad():
        exact = op(u)
        with torch.autocast("cpu", dtype):
            y = op(u)
    assert_close(y, exact, tolerance, dtype=dtype)
    op.train()
    expected = with_module_gradients(op, op, u)
    with torch.autocast("cpu", dtype):
        got = with_module_gradients(op, op, u)
    assert_close(got[0], y, tolerance)
    assert_all_close(got[1:], expected[1:], 2 * tolerance)


@pytest.mark.cpu
def test_autocast_leaves_float64_alone(generator: torch.Generator) -> None:
    op, u = make().double(), draw(generator, 2, 50, D).double()
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            expected = op(u)
            with torch.autocast("cpu", torch.bfloat16):
                assert torch.equal(op(u), expected)


def test_the_default_device_and_dtype_do_not_matter(generator: torch.Generator) -> None:
    op, u = make(3), draw(generator, 2, 50, D)
    expected = op(u).detach()
    with torch.device("meta"):
        assert_close(op(u).detach(), expected, 1e-6)
        with torch.no_grad():
            assert_close(op(u), expected, 1e-6)
    torch.set_default_dtype(torch.float64)
    try:
        got = with_module_gradients(op, op, u)
        with torch.no_grad():
            assert_close(op(u), expected, 1e-6)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_all_close(got, with_module_gradients(op, op, u), 1e-6)


# What stands for a projection, or looks at it.


def lora(linear: nn.Linear) -> nn.Module:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base = linear
            self.low, self.high = nn.Linear(D, 2), nn.Linear(2, linear.out_features)

        def forward(self, u: Tensor) -> Tensor:
            return self.base(u) + self.high(self.low(u))

    return Adapted()


def doubled_by_a_hook(linear: nn.Linear) -> nn.Module:
    linear.register_forward_hook(lambda module, inputs, output: 2 * output)
    return linear


def weight_norm(linear: nn.Linear) -> nn.Module:
    linear = parametrizations.weight_norm(linear)
    with torch.no_grad():
        linear.parametrizations.weight.original0.mul_(3)
    return linear


def forgetful(linear: nn.Linear) -> nn.Module:
    """Gives out the memory that it keeps, as a module may."""

    class Forgetful(nn.Module):
        def forward(self, u: Tensor) -> Tensor:
            self.kept = nn.functional.linear(u, linear.weight, linear.bias)
            return self.kept

    return Forgetful()


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("change", [lora, doubled_by_a_hook, weight_norm, forgetful])
@pytest.mark.parametrize("name", ["in_proj", "out_proj"])
@pytest.mark.parametrize(("B", "L"), [(1, 1), (2, 60)])
def test_projections_that_were_changed(
    B: int,
    L: int,
    name: str,
    change: Callable[[nn.Linear], nn.Module],
    order: int,
    generator: torch.Generator,
) -> None:
    op, u = make(order), draw(generator, B, L, D)
    plain = op(u).detach()
    setattr(op, name, change(getattr(op, name)))
    expected = op.train()(u).detach()
    same = torch.allclose(expected, plain, rtol=0, atol=1e-6 * float(plain.abs().max()))
    assert same == (change is forgetful)
    op.eval()
    with torch.no_grad():
        assert_close(op(u), expected, 1e-6)
        if change is forgetful:  # what it keeps is its own
            kept = getattr(op, name).kept
            before = kept.clone()
            op(u)
            assert torch.equal(kept, before)


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("width", [1, 8])
def test_a_projection_that_does_nothing(width: int, order: int, generator: torch.Generator) -> None:
    """What it returns is not memory that the next call writes to."""
    op = HyenaOperator(width, M, order).eval()
    op.out_proj = nn.Identity()  # type: ignore[assignment]
    for B, L in ((1, 1), (1, 300), (2, 300), (2, 1)):
        u = draw(generator, B, L, width)
        with torch.no_grad():
            y = op(u)
            kept = y.clone()
            op(2 * u)
        assert torch.equal(y, kept)
        assert_close(y, op(u).detach(), 1e-6)


@pytest.mark.parametrize("name", ["in_proj", "out_proj"])
@pytest.mark.parametrize("order", [2, 3])
def test_what_a_hook_saw_stays(name: str, order: int, generator: torch.Generator) -> None:
    op, seen = make(order), []
    getattr(op, name).register_forward_hook(
        lambda module, inputs, output: seen.extend([*inputs, output])
    )
    with torch.no_grad():
        for L in (1, 200):
            u = draw(generator, 1, L, D)
            seen.clear()
            op(u)
            kept = [x.clone() for x in seen]
            assert len(kept) == 2
            op(3 * u)
            assert all(map(torch.equal, seen[:2], kept))


def test_hooks_of_all_modules(generator: torch.Generator) -> None:
    op, seen = make(), []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: seen.append(module)
    )
    try:
        with torch.no_grad():
            op(draw(generator, 1, 20, D))
    finally:
        handle.remove()
    assert {op.in_proj, op.out_proj} <= set(seen)


# Compilers.


@pytest.mark.parametrize(("order", "training"), [(2, True), (3, True), (3, False)])
def test_compiles_to_one_graph(order: int, training: bool, generator: torch.Generator) -> None:
    torch.compiler.reset()
    op, u = make(order).train(training), draw(generator, 2, 60, D)
    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    if training:
        expected = with_module_gradients(op, op, u)
        assert_all_close(with_module_gradients(op, compiled, u), expected, 2e-5)
    else:
        with torch.no_grad():
            assert_close(compiled(u), op(u), 1e-6)
            assert_close(compiled(u + 1), op(u + 1), 1e-6)


@pytest.mark.cpu
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(("order", "gradients"), [(2, True), (3, True), (3, False)])
def test_exports(order: int, gradients: bool, generator: torch.Generator) -> None:
    """With the kernel for any batch; PyTorch's FFT goes over channels in as many pieces as fit."""
    op, u = make(order), draw(generator, 2, 60, D)
    native = "native" in backends()
    sizes = {"u": {0: torch.export.Dim("batch", min=1, max=64)}} if native else None
    with torch.set_grad_enabled(gradients):
        program = torch.export.export(op, (u,), dynamic_shapes=sizes)
        for B in (1, 2, 5) if native else (2,):
            v = draw(generator, B, 60, D)
            assert_close(program.module()(v).detach(), op(v).detach(), 1e-6)
    if native:
        assert "hyena.conv.default" in {str(node.target) for node in program.graph.nodes}
