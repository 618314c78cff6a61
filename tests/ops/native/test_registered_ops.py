"""The kernel's ops as PyTorch sees them: schema, tracing, compilation, derivatives, modes."""

import shutil
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients
from kernel_cases import assert_right, by_fft, documents, draw, native, short_op
from torch import Tensor
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from hyena.ops import Segments, filter_spectrum, gated_conv, long_conv, short_conv

# Dynamo makes an instance of the autograd function, of which PyTorch warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

L = 40


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> None:
    torch.compiler.reset()


def samples(grad: bool) -> list[tuple[Any, ...]]:
    """Arguments of hyena::conv; without gradients, also those that have none."""
    z, k, skip, taps, bias = (x.requires_grad_(grad) for x in draw(2, 3, L, L))
    two_sided = draw(2, 3, L, 2 * L - 1)[1].requires_grad_(grad)
    u = z.detach()[:, :3].clone().requires_grad_(grad)
    ids = documents()
    found = [
        (z, 3, k, 0, None, None, None, 0, 0, None),
        (z, 3, k, 0, skip, taps, bias, 0, 0, None),
        (z, 3, k, 0, skip, taps, None, 0, 0, ids),
        (z, 3, two_sided, 0, skip, taps, bias, L - 1, 1, ids),
        (u, 1, k, 0, skip, None, None, 0, 0, None),
        (u, 1, two_sided, 0, None, None, None, L - 1, 0, ids),
        (z.detach().bfloat16().requires_grad_(grad), 3, k, 0, skip, taps, bias, 0, 0, None),
        (z.detach().transpose(0, 1).clone().transpose(0, 1), 3, k, 0, skip, None, None, 0, 0, None),
    ]
    kept = filter_spectrum(k.detach(), L, backend="native")
    found.append((z, 3, kept.values, kept.n, None, taps, bias, 0, 0, None))
    found.append((u, 1, kept.values, kept.n, None, None, None, 0, 0, None))
    return found


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("index", range(10))
def test_the_convolution_is_a_sound_op(index: int, grad: bool) -> None:
    torch.library.opcheck(torch.ops.hyena.conv.default, samples(grad)[index])


@pytest.mark.parametrize("index", range(10))
def test_its_gradient_is_a_sound_op(index: int) -> None:
    z, parts, k, n, *rest = samples(False)[index]
    dy = torch.randn(z.shape[0], z.shape[1] // parts, L).to(z.dtype)
    for need in ([True, not n, True, True, True], [False, not n, False, False, True]):
        arguments = (dy, z, parts, k, n, *rest, True, need)
        torch.library.opcheck(torch.ops.hyena.conv_backward.default, arguments)


@pytest.mark.parametrize("grad", [False, True])
def test_the_short_convolution_is_a_sound_op(grad: bool) -> None:
    z, _, _, taps, bias = (x.requires_grad_(grad) for x in draw(2, 3, L, L))
    for arguments in (
        (z, 1, None, 0, None, taps, bias, 0, 0, None),
        (z, 1, None, 0, None, taps, None, 0, 1, documents()),
        (z.detach().half().requires_grad_(grad), 1, None, 0, None, taps, bias, 0, 0, None),
    ):
        torch.library.opcheck(torch.ops.hyena.conv.default, arguments)


def test_its_short_gradient_is_a_sound_op() -> None:
    z, _, _, taps, bias = draw(2, 3, L, L)
    for wanted in ([True, True, True], [True, False, False], [False, True, False]):
        need = [wanted[0], False, False, *wanted[1:]]
        rest = (None, 0, None, taps, bias, 0, 0, None, True, need)
        arguments = (torch.randn_like(z), z, 1, *rest)
        torch.library.opcheck(torch.ops.hyena.conv_backward.default, arguments)


def test_the_ops_give_what_the_functions_give() -> None:
    inputs = draw(2, 3, L, L)

    def op(z: Tensor, k: Tensor, skip: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        return torch.ops.hyena.conv(z, 3, k, 0, skip, taps, bias, 0, 0, None)

    for a, b in zip(with_gradients(op, *inputs), with_gradients(native(), *inputs), strict=True):
        assert torch.equal(a, b)
    short = (inputs[0], *inputs[3:])
    got = with_gradients(lambda *x: short_op(*x, 0, None), *short)
    expected = with_gradients(lambda *x: short_conv(*x, backend="native"), *short)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("op", [native, "long", "short"])
def test_compiles_to_one_graph(op: Any, packed: bool, causal: bool) -> None:
    segments = Segments.from_document_ids(
        torch.arange(L).div(9, rounding_mode="floor").expand(2, L)
    )
    options: dict[str, Any] = {"causal": causal, "segments": segments if packed else None}
    inputs = draw(2, 3, L, 2 * L - 1)
    if op == "long":
        inputs = (inputs[0][:, :3].contiguous(), *inputs[1:3])

        def f(*x: Tensor) -> Tensor:
            return long_conv(*x, backend="native", **options)
    elif op == "short":
        inputs = (inputs[0], *inputs[3:])

        def f(*x: Tensor) -> Tensor:
            return short_conv(*x, backend="native", **options)
    else:
        f = native(**options)  # type: ignore[assignment]
    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    got, expected = with_gradients(compiled, *inputs), with_gradients(f, *inputs)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        assert torch.equal(compiled(*inputs), expected[0])


def test_a_compiled_graph_holds_the_kernel() -> None:
    """And not its way through ctypes."""
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    inputs = draw(2, 3, L, L)
    torch.compile(native(), fullgraph=True, backend=backend)(*inputs)
    [graph] = graphs
    assert "hyena.conv" in graph.code


def test_compiled_for_any_length() -> None:
    compiled = torch.compile(native(), fullgraph=True, backend="aot_eager", dynamic=True)
    for length in (40, 41, 700):
        inputs = draw(2, 3, length, length)
        assert_right(with_gradients(compiled, *inputs), with_gradients(by_fft(), *inputs))


def test_a_compiled_spectrum() -> None:
    z, k, skip, taps, bias = draw(2, 3, L, L)
    kept = filter_spectrum(k, L, skip, backend="native")

    def op(z: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        return gated_conv(z, kept, short=(taps, bias), backend="native")

    compiled = torch.compile(op, fullgraph=True, backend="aot_eager")
    got = with_gradients(compiled, z, taps, bias)
    for a, b in zip(got, with_gradients(op, z, taps, bias), strict=True):
        assert torch.equal(a, b)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiles_with_the_default_compiler() -> None:
    inputs = draw(2, 3, L, L)
    op = native()

    def f(z: Tensor, *filters: Tensor) -> Tensor:
        return 2 * op(z.sin(), *filters)  # something to fuse with

    # A program to test each instruction set of the processor would take as long as this one.
    compiled = torch.compile(f, fullgraph=True, options={"cpp.vec_isa_ok": True})
    assert_all_close(with_gradients(compiled, *inputs), with_gradients(f, *inputs), 1e-6)


def test_exports() -> None:
    class Gated(torch.nn.Module):
        def forward(self, z: Tensor, k: Tensor) -> Tensor:
            return gated_conv(z, k, backend="native")

    z, k, *_ = draw(2, 3, L, L)
    program = torch.export.export(Gated(), (z, k))
    assert torch.equal(program.module()(z, k), gated_conv(z, k))
    names = {str(node.target) for node in program.graph.nodes}
    assert "hyena.conv.default" in names


def test_traced_with_real_tensors() -> None:
    """A tracer that runs the code as it is sees the op, too."""
    inputs = draw(2, 3, L, L)
    graph = make_fx(native())(*inputs)
    assert "torch.ops.hyena.conv.default" in graph.code
    others = [x + 1 for x in inputs]
    assert torch.equal(graph(*others), native()(*others))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("grad", [False, True])
def test_traced_by_jit(grad: bool) -> None:
    """Not as the numbers that came out."""
    inputs = draw(2, 3, L, L)
    u = inputs[0][:, :3].contiguous()
    for op, given in (
        (native(), inputs),
        (lambda u, k, skip: long_conv(u, k, skip, backend="native"), (u, *inputs[1:3])),
        (lambda u, k, b: short_conv(u, k, b, backend="native"), (inputs[0], *inputs[3:])),
        (lambda u, k: long_conv(u, filter_spectrum(k.detach(), L)), (u, inputs[1])),
    ):
        leaves = [x.detach().clone().requires_grad_(grad) for x in given]
        traced = torch.jit.trace(op, tuple(leaves), check_trace=False)
        others = [x.detach() + 1 for x in given]
        assert_close(traced(*others), op(*others), 1e-6)
    traced = torch.jit.trace(native(), inputs)
    assert "hyena::conv" in str(traced.graph)
    got = with_gradients(traced, *[x + 1 for x in inputs])
    for a, b in zip(got, with_gradients(native(), *[x + 1 for x in inputs]), strict=True):
        assert torch.equal(a, b)


def test_seen_by_whoever_watches_ops() -> None:
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func.overloadpacket)
            return func(*args, **(kwargs or {}))

    z, k, skip, taps, bias = (x.requires_grad_() for x in draw(2, 3, L, L))
    with Watch():
        y = native()(z, k, skip, taps, bias)
        got = torch.autograd.grad(y.sum(), [z, k, skip, taps, bias])
        short_conv(z, taps, bias, backend="native").sum().backward()
    for op in ("conv", "conv_backward"):
        assert seen.count(getattr(torch.ops.hyena, op)) == 2
    expected = torch.autograd.grad(native()(z, k, skip, taps, bias).sum(), [z, k, skip, taps, bias])
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


class Wrapped(Tensor):
    """A tensor of a kind of its own, which sees every op."""

    seen: list[Any] = []  # noqa: RUF012

    @staticmethod
    def __new__(cls, inner: Tensor, grad: bool = False) -> "Wrapped":
        return Tensor._make_wrapper_subclass(
            cls, inner.shape, dtype=inner.dtype, strides=inner.stride(), requires_grad=grad
        )

    def __init__(self, inner: Tensor, grad: bool = False) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func.overloadpacket)

        def unwrap(x: Any) -> Any:
            return x.inner if isinstance(x, Wrapped) else x

        args, kwargs = torch.utils._pytree.tree_map(unwrap, (args, kwargs or {}))
        found = func(*args, **kwargs)
        return torch.utils._pytree.tree_map_only(Tensor, Wrapped, found)


def test_tensors_of_another_kind() -> None:
    z, k, skip, taps, bias = inputs = draw(2, 3, L, L)
    expected = with_gradients(native(), *inputs)
    leaf = Wrapped(z, grad=True)
    y = native()(leaf, k, skip, taps, bias)
    assert isinstance(y, Wrapped)
    assert torch.equal(y.inner, expected[0])
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    [dz] = torch.autograd.grad(y, leaf, Wrapped(dy.float()))
    assert torch.equal(dz.inner, expected[1])
    assert {torch.ops.hyena.conv, torch.ops.hyena.conv_backward} <= set(Wrapped.seen)


# Derivatives beyond the first, and of other kinds.


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("op", ["gated", "long", "short"])
def test_gradients_of_gradients(op: str, packed: bool, causal: bool) -> None:
    """Those of the PyTorch backend, to which they are left."""
    segments = Segments.from_document_ids(
        torch.arange(L).div(9, rounding_mode="floor").expand(2, L)
    )
    options: dict[str, Any] = {"causal": causal, "segments": segments if packed else None}
    z, k, skip, taps, bias = draw(2, 3, L, 2 * L - 1)
    inputs = {
        "gated": (z, k, skip, taps, bias),
        "long": (z[:, :3].contiguous(), k, skip),
        "short": (z, taps, bias),
    }[op]

    def second(backend: Any, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        if op == "gated":
            y = gated_conv(*leaves[:3], short=(leaves[3], leaves[4]), backend=backend, **options)
        elif op == "long":
            y = long_conv(*leaves, backend=backend, **options)
        else:
            y = short_conv(*leaves, backend=backend, **options)
        first = torch.autograd.grad(y.pow(2).sum(), leaves, create_graph=True)
        total = sum((x * x).sum() for x in first)
        assert isinstance(total, Tensor)
        return [y.detach(), *torch.autograd.grad(total, leaves)]

    expected = [x.float() for x in second("torch", torch.float64)]
    assert_all_close(second("native", torch.float32), expected, 2e-6)


@pytest.mark.parametrize("op", ["gated", "long", "short"])
def test_gradients_of_gradients_of_a_filter_used_twice(op: str) -> None:
    """The input of the second time is made of the filter, whose gradient counts once all the
    same."""
    z, k, skip, taps, bias = draw(2, 3, L, 9)
    u = z[:, :3].contiguous()
    inputs = {"gated": (z, k, skip, taps, bias), "long": (u, k, skip), "short": (z, taps, bias)}[op]

    def second(backend: Any, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        x, *filters = leaves
        for _ in range(2):
            if op == "gated":
                y = gated_conv(x, *filters[:2], short=(filters[2], filters[3]), backend=backend)
                x = x + y.repeat(1, 3, 1)
            elif op == "long":
                x = long_conv(x, *filters, backend=backend)
            else:
                x = short_conv(x, *filters, backend=backend)
        first = torch.autograd.grad(x.pow(2).mean(), leaves, create_graph=True)
        total = torch.stack([(x * x).mean() for x in first]).sum()
        return list(torch.autograd.grad(total, leaves))

    expected = [x.float() for x in second("torch", torch.float64)]
    assert_all_close(second("native", torch.float32), expected, 1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("length", "K"), [(1, 1), (L, 1), (L, 9), (L, 2 * L + 3), (500, 799)])
def test_gradients_of_gradients_through_a_spectrum(length: int, K: int, causal: bool) -> None:
    """Whose filter is found by what it makes of a one."""
    inputs = draw(2, 3, length, K)

    def second(spectrum: bool, dtype: torch.dtype) -> list[Tensor]:
        z, k, skip, taps, bias = (x.to(dtype) for x in inputs)
        leaves = [z.requires_grad_(), taps.requires_grad_(), bias.requires_grad_()]
        filter = (filter_spectrum(k, length, skip, causal=causal),) if spectrum else (k, skip)
        y = gated_conv(z, *filter, short=(taps, bias), causal=causal)
        first = torch.autograd.grad(y.pow(2).sum(), leaves, create_graph=True)
        return list(torch.autograd.grad(sum((x * x).sum() for x in first), leaves))

    expected = [x.float() for x in second(False, torch.float64)]
    assert_all_close(second(True, torch.float32), expected, 2e-6)


def test_per_sample_gradients_and_vmap() -> None:
    """torch.func is left to PyTorch's ops."""
    z, k, skip, taps, bias = draw(4, 3, L, L)

    def one(k: Tensor, taps: Tensor, row: Tensor) -> Tensor:
        return gated_conv(row[None], k, skip, short=(taps, bias))[0]

    got = torch.func.vmap(one, (None, None, 0))(k, taps, z)
    assert_close(got, gated_conv(z, k, skip, short=(taps, bias), backend="native"), 1e-6)
    gradient = torch.func.grad(lambda *x: one(*x).pow(2).sum(), (0, 1))
    per_sample = torch.func.vmap(gradient, (None, None, 0))(k, taps, z)
    for i in range(4):
        leaves = [k.clone().requires_grad_(), taps.clone().requires_grad_()]
        row = z[i : i + 1]
        y = gated_conv(row, leaves[0], skip, short=(leaves[1], bias), backend="native")
        expected = torch.autograd.grad(y.pow(2).sum(), leaves)
        assert_all_close([x[i] for x in per_sample], expected, 2e-6)
    with pytest.raises(ValueError, match=r"outside torch\.func and forward mode, with"):
        torch.func.vmap(lambda row: gated_conv(row[None], k, backend="native"))(z)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside forward mode
def test_forward_mode_is_refused() -> None:
    """Rather than a tangent lost."""
    z, k, _, taps, _ = draw(2, 3, L, L)
    with forward_ad.dual_level(), torch.no_grad():
        dual = forward_ad.make_dual(z, torch.ones_like(z))
        with pytest.raises(ValueError, match=r"outside torch\.func and forward mode"):
            gated_conv(dual, k, backend="native")
        with pytest.raises(ValueError, match=r"outside torch\.func and forward mode"):
            short_conv(dual, taps, backend="native")


def test_activation_checkpointing() -> None:
    inputs = draw(2, 3, L, L)

    def op(*x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(native(), *x, use_reentrant=False)

    for a, b in zip(with_gradients(op, *inputs), with_gradients(native(), *inputs), strict=True):
        assert torch.equal(a, b)


def test_an_input_that_changed_after_the_forward_pass_is_noticed() -> None:
    z, k, *_ = draw(2, 3, L, L)
    for changed in range(2):
        leaves = [z.clone().requires_grad_(), k.clone().requires_grad_()]
        inputs = [x * 1 for x in leaves]
        y = gated_conv(*inputs, backend="native")
        inputs[changed].detach().add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_a_backward_pass_twice() -> None:
    z, k, *_ = draw(2, 3, L, L)
    z.requires_grad_()
    y = gated_conv(z, k, backend="native").sum()
    [first] = torch.autograd.grad(y, z, retain_graph=True)
    [second] = torch.autograd.grad(y, z)
    assert torch.equal(first, second)
