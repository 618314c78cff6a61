"""Loss and gradients from slices are those of all logits."""

import pytest
import torch
from comparison import assert_all_close, assert_close
from torch import Tensor
from torch.func import grad, vmap
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.model.linear_cross_entropy import linear_cross_entropy

B, L, D, V = 2, 13, 6, 31


def inputs(ignored: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """x, weight and targets, so many of which are none."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(B, L, D, generator=draw, dtype=torch.float64)
    weight = torch.randn(V, D, generator=draw, dtype=torch.float64)
    targets = torch.randint(V, (B, L), generator=draw)
    targets.view(-1)[torch.randperm(B * L, generator=draw)[:ignored]] = IGNORE
    return x.to(dtype), weight.to(dtype), targets


def of_all_logits(x: Tensor, weight: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """The definition."""
    logits = F.linear(x, weight)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(wide.transpose(1, 2), targets, ignore_index=IGNORE, reduction=reduction)


def bytes_of(rows: int, dtype: torch.dtype = torch.float64) -> int:
    """Room for so many positions."""
    return rows * V * dtype.itemsize


def loss_and_gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


def needing(*tensors: Tensor) -> list[Tensor]:
    return [x.detach().clone().requires_grad_() for x in tensors]


@pytest.mark.parametrize("softmax_bytes", [1, 3 * V * 4, 1 << 21])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_softmax_and_sums_in_parts_are_those_of_a_slice(
    softmax_bytes: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of one position, of three and of all; of the weight seven rows at once, then three."""
    *leaves, targets = inputs(ignored=3, dtype=dtype)
    x, weight = needing(*leaves)
    exact = needing(x.double(), weight.double())
    expected = loss_and_gradients(of_all_logits(*exact, targets), *exact)
    monkeypatch.setattr("hyena.model.linear_cross_entropy._SOFTMAX_BYTES", softmax_bytes)
    monkeypatch.setattr("hyena.model.linear_cross_entropy._SUMMED_ROWS", 7)
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(5, dtype))
    found = loss_and_gradients(loss, x, weight)
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    assert_all_close([y.double() for y in found], expected, tolerance)


@pytest.mark.parametrize("ignored", [0, 1, 12, B * L - 1])
@pytest.mark.parametrize("rows", [1, 2, 7, B * L - 1, B * L, 100])
def test_loss_and_gradients_are_those_of_all_logits(rows: int, ignored: int) -> None:
    *leaves, targets = inputs(ignored)
    x, weight = needing(*leaves)
    expected = loss_and_gradients(of_all_logits(x, weight, targets), x, weight)
    found = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(rows))
    assert_all_close(loss_and_gradients(found, x, weight), expected, 1e-12)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_without_a_gradient_each_loss_may_be_had(rows: int) -> None:
    x, weight, targets = inputs(ignored=9)
    room = bytes_of(rows)
    expected = of_all_logits(x, weight, targets, "none")
    found = linear_cross_entropy(x, weight, targets, reduction="none", slice_bytes=room)
    assert_close(found, expected, 1e-12)
    assert not found[targets == IGNORE].any()
    mean = linear_cross_entropy(x, weight, targets, slice_bytes=room)
    assert_close(mean, expected[targets != IGNORE].mean(), 1e-12)


def test_single_losses_have_gradients_too() -> None:
    *leaves, targets = inputs(ignored=9)
    x, weight = needing(*leaves)
    each = linear_cross_entropy(x, weight, targets, reduction="none", slice_bytes=bytes_of(3))
    expected = of_all_logits(x, weight, targets, "none")
    dy = torch.rand(B, L, dtype=torch.float64)
    assert_all_close(
        torch.autograd.grad(each, (x, weight), dy),
        torch.autograd.grad(expected, (x, weight), dy),
        1e-12,
    )


@pytest.mark.parametrize("room", [1, bytes_of(100)])
def test_no_target_at_all(room: int) -> None:
    *leaves, targets = inputs(ignored=B * L)
    x, weight = needing(*leaves)
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=room)
    assert loss.isnan()
    loss.backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert not x.grad.any()
    assert not weight.grad.any()


@pytest.mark.parametrize("which", ["x", "weight"])
def test_only_what_needs_a_gradient_gets_one(which: str) -> None:
    x, weight, targets = inputs(ignored=3)
    leaf = (x if which == "x" else weight).requires_grad_()
    expected = loss_and_gradients(of_all_logits(x, weight, targets), leaf)
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(5))
    assert_all_close(loss_and_gradients(loss, leaf), expected, 1e-12)


def test_the_gradient_is_that_of_differences() -> None:
    *leaves, targets = inputs(ignored=3)
    x, weight = needing(*leaves)

    def loss(x: Tensor, weight: Tensor) -> Tensor:
        return 3 * linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(5))

    assert torch.autograd.gradcheck(loss, (x, weight))


@pytest.mark.parametrize("rows", [3, 100])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype, rows: int) -> None:
    *leaves, targets = inputs(ignored=3, dtype=dtype)
    x, weight = needing(*leaves)
    exact = needing(x.double(), weight.double())
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(rows, dtype))
    assert loss.dtype == torch.float32
    found = loss_and_gradients(loss, x, weight)
    expected = loss_and_gradients(of_all_logits(*exact, targets), *exact)
    assert found[1].dtype == found[2].dtype == dtype
    assert_all_close([y.double() for y in found], expected, 0.02)


@pytest.mark.parametrize("rows", [3, 100])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_losses_of_half_precision_are_taken_in_float32(dtype: torch.dtype, rows: int) -> None:
    logits, weight = inputs()[0].to(dtype), torch.eye(D, dtype=dtype)  # the products are exact
    targets = torch.randint(D, (B, L), generator=torch.Generator().manual_seed(0))
    room = rows * D * dtype.itemsize
    loss = linear_cross_entropy(logits, weight, targets, slice_bytes=room)
    assert loss.dtype == torch.promote_types(dtype, torch.float32)
    expected = -torch.log_softmax(logits.double(), -1).gather(-1, targets[..., None]).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_a_sum_of_gradients_too_large_for_float16_has_a_mean() -> None:
    x = torch.full((1, 3000, 2), 30.0, dtype=torch.float16, requires_grad=True)
    weight = torch.zeros(3, 2, dtype=torch.float16, requires_grad=True)
    targets = torch.zeros(1, 3000, dtype=torch.int64)
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=1000)
    (found,) = torch.autograd.grad(loss, weight)
    expected = 30 * torch.tensor([[-2 / 3] * 2, [1 / 3] * 2, [1 / 3] * 2])
    assert_close(found.float(), expected, 1e-3)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_autocast_products_are_in_its_dtype(dtype: torch.dtype) -> None:
    *leaves, targets = inputs(ignored=3, dtype=dtype)
    x, weight = needing(*leaves)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(3))
        expected = of_all_logits(x, weight, targets)
    found = loss_and_gradients(loss, x, weight)
    assert {y.dtype for y in found} == {dtype}
    exact = 1e-12 if dtype == torch.float64 else 0.01
    assert_all_close(found, loss_and_gradients(expected, x, weight), exact)
    rounded = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(3))
    assert torch.equal(rounded, loss) == (dtype == torch.float64)


def test_a_graph_may_be_gone_through_twice() -> None:
    *leaves, targets = inputs()
    x, weight = needing(*leaves)
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(3))
    loss.backward(retain_graph=True)
    assert x.grad is not None
    once = x.grad.clone()
    loss.backward()
    assert torch.equal(x.grad, 2 * once)


def test_a_gradient_of_the_gradient_is_refused() -> None:
    *leaves, targets = inputs()
    x, weight = needing(*leaves)
    loss = linear_cross_entropy(x, weight, targets, slice_bytes=bytes_of(3))
    with pytest.raises(RuntimeError, match=r"take .*cross_entropy of the logits"):
        torch.autograd.grad(loss, x, create_graph=True)


def test_gradients_of_each_sample() -> None:
    x, weight, targets = inputs()

    def loss(weight: Tensor, x: Tensor, targets: Tensor) -> Tensor:
        return linear_cross_entropy(x[None], weight, targets[None], slice_bytes=1)

    found = vmap(grad(loss), in_dims=(None, 0, 0))(weight, x, targets)
    (leaf,) = needing(weight)
    for i in range(B):
        (expected,) = torch.autograd.grad(
            of_all_logits(x[i : i + 1], leaf, targets[i : i + 1]), leaf
        )
        assert_close(found[i], expected, 1e-12)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled() -> None:
    *leaves, targets = inputs(ignored=3)
    recorded: list[str] = []

    def backend(graph: torch.fx.GraphModule, examples: list[Tensor]) -> torch.fx.GraphModule:
        recorded.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    for compiler in (backend, "aot_eager"):
        torch.compiler.reset()
        compiled = torch.compile(linear_cross_entropy, backend=compiler, fullgraph=True)
        for length in (L, 9, 11):
            x, weight = needing(leaves[0][:, :length], leaves[1])
            few = targets[:, :length]
            expected = loss_and_gradients(of_all_logits(x, weight, few), x, weight)
            loss = compiled(x, weight, few, slice_bytes=bytes_of(3))
            assert_all_close(loss_and_gradients(loss, x, weight), expected, 1e-12)
    assert any("linear_cross_entropy" in name for name in recorded)


@pytest.mark.parametrize("need", [(True, True), (False, True), (True, False), (False, False)])
def test_the_registered_op(need: tuple[bool, bool]) -> None:
    x, weight, targets = inputs(ignored=3, dtype=torch.float32)
    x, weight = x.flatten(0, 1).requires_grad_(need[0]), weight.requires_grad_(need[1])
    arguments = (x, weight, targets.flatten(), 5, torch.float32, *need)
    torch.library.opcheck(torch.ops.hyena.linear_cross_entropy.default, arguments)
