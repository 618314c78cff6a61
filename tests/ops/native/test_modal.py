"""The kernel's convolution with sums of exponentials, in each build, against float64."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comparison import assert_all_close
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import NARROW
from modal_cases import assert_each_close, draw, parts, with_gradients, without
from torch import Tensor

from hyena.ops import gated_modal_conv, modal_conv
from hyena.ops.native import library
from hyena.ops.native.library import Outcome

DTYPES = [torch.float32, *NARROW]
KINDS = ["real", "complex"]
TOLERANCE = 2e-6


def op(backend: Any) -> Callable[..., Any]:
    def run(u: Tensor, log_decay: Tensor, weight: Tensor, skip: Any, state: Any) -> Any:
        return modal_conv(u, log_decay, weight, skip, state=state, backend=backend)

    return run


def widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float64))


def truth(*inputs: Any) -> Any:
    """By PyTorch's ops in float64, y rounded to the dtype of u."""
    y, after = op("torch")(*(None if x is None else widened(x) for x in inputs))
    return y.to(inputs[0].dtype), after


def tolerances(got: Sequence[Tensor], dtype: torch.dtype) -> list[float]:
    """Narrow numbers are rounded at the end, gradients are sums over rows."""
    found = []
    for i, x in enumerate(got):
        rounded = dtype in NARROW and x.dtype == dtype
        found.append(10 * NARROW[dtype] if rounded else TOLERANCE * (3 if i > 1 else 1))
    return found


def assert_right(inputs: Sequence[Any], of_state: bool = False) -> None:
    got = with_gradients(op("native"), *inputs, of_state=of_state)
    expected = with_gradients(truth, *inputs, of_state=of_state)
    assert_each_close(got, expected, tolerances(got, inputs[0].dtype))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("L", [1, 3, 4, 15, 16, 17, 31, 100, 127, 128, 129, 300])
def test_equals_float64(L: int, kind: str, dtype: torch.dtype, generator: torch.Generator) -> None:
    for n in (1, 3, 16, 17):
        assert_right(draw(generator, 2, 3, L, n, kind, dtype))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("absent", [(3,), (4,), (3, 4)])
def test_without_skip_or_state(
    absent: Sequence[int], kind: str, generator: torch.Generator
) -> None:
    assert_right(without(draw(generator, 2, 5, 200, 6, kind, torch.float32), absent))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kind", KINDS)
def test_long_rows(kind: str, generator: torch.Generator) -> None:
    assert_right(draw(generator, 1, 2, 10007, 16, kind, torch.float32))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("L", "most"), [(8192, 8e-7), (131_072, 4e-6)])
@torch.no_grad()
def test_poles_that_turn_fast_and_hardly_decay(
    L: int, most: float, generator: torch.Generator
) -> None:
    """Errors are those of long sums in float32; logarithms that are rounded to it turn too far."""
    turns = torch.tensor([[3.1, 2.9, 2.7, 2.5]], dtype=torch.float64)
    log_decay = torch.complex(torch.full_like(turns, -8 / L), turns)
    weight = torch.randn(1, 4, dtype=torch.complex64, generator=generator)
    u = torch.randn(1, 1, L, generator=generator)
    expected, _ = truth(u.double(), log_decay, weight, None, None)

    def error(y: Tensor) -> float:
        return float((y.double() - expected).norm() / expected.norm())

    y, _ = op("native")(u, log_decay, weight, None, None)
    assert error(y) < most
    rounded, _ = op("native")(u, log_decay.to(torch.complex64), weight, None, None)
    assert error(rounded) > 50 * error(y)


@pytest.mark.usefixtures("isa", "poisoned")
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_gradients_that_are_asked_for(kind: str, generator: torch.Generator) -> None:
    """The kernel leaves out what no gradient needs, and the rest does not change."""
    inputs = draw(generator, 2, 3, 150, 5, kind, torch.float32)
    dy = torch.randn(2, 3, 150)

    def gradients(wanted: Sequence[int]) -> list[Tensor]:
        leaves = [x.clone().requires_grad_(i in wanted) for i, x in enumerate(inputs)]
        y, _ = op("native")(*leaves)
        return [parts(x) for x in torch.autograd.grad(y, [leaves[i] for i in wanted], dy)]

    every = gradients(range(5))
    for i in range(5):
        assert torch.equal(gradients([i])[0], every[i])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_however_they_lie_in_memory(kind: str, generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 4, 90, 3, kind, torch.float32)
    expected = with_gradients(op("native"), *inputs, of_state=False)

    def elsewhere(x: Tensor) -> Tensor:
        other = x.transpose(0, -1).contiguous().transpose(0, -1)
        return other.conj().resolve_conj().conj() if x.is_complex() else other

    def moved(*x: Tensor) -> Any:
        return op("native")(*map(elsewhere, x))

    assert_all_close(with_gradients(moved, *inputs, of_state=False), expected, 1e-7)


@pytest.mark.usefixtures("isa", "two_threads")
@pytest.mark.parametrize("kind", KINDS)
def test_the_number_of_threads_changes_no_bit(kind: str, generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 37, 700, 5, kind, torch.float32)
    expected = with_gradients(op("native"), *inputs, of_state=False)
    for threads in (1, 5):
        torch.set_num_threads(threads)
        got = with_gradients(op("native"), *inputs, of_state=False)
        assert all(map(torch.equal, got, expected))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("size", [1e-30, 1e-15, 1e15, 1e30])
def test_very_small_and_very_large_numbers(size: float, generator: torch.Generator) -> None:
    u, *others = draw(generator, 2, 3, 200, 4, "real", torch.float32)
    others[3] = size * others[3]
    y, _ = op("native")(size * u, *others)
    expected, _ = truth((size * u).double(), *others)
    assert_all_close([y.double() / size], [expected / size], TOLERANCE)


@pytest.mark.usefixtures("isa")
def test_a_nan_reaches_nothing_before_it(generator: torch.Generator) -> None:
    u, *others = draw(generator, 2, 3, 200, 4, "real", torch.float32)
    u[0, 1, 77] = torch.nan
    y, _ = op("native")(u, *others)
    broken = torch.zeros(y.shape, dtype=torch.bool)
    broken[0, 1, 77:] = True
    assert torch.equal(y.isnan(), broken)


@settings(max_examples=100)
@given(st.data(), st.sampled_from(library.isas() or ["none"]))
def test_any_sizes(data: st.DataObject, isa: str) -> None:
    B, D = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 6))
    L, n = data.draw(st.integers(1, 600)), data.draw(st.integers(1, 40))
    kind, dtype = data.draw(st.sampled_from(KINDS)), data.draw(st.sampled_from(DTYPES))
    absent = data.draw(st.sets(st.sampled_from([3, 4])))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 5)))
    inputs = without(draw(generator, B, D, L, n, kind, dtype), [*absent])
    with library.use(isa):
        assert_right(inputs)


@pytest.mark.parametrize("name", ["modal", "modal_backward"])
def test_memory_that_runs_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = library.kernel()
    assert kernel is not None
    broken: dict[str, Any] = {name: lambda *_: 1}
    monkeypatch.setattr(library, "outcome", Outcome(dataclasses.replace(kernel, **broken)))
    u, modes = torch.zeros(2, 3, 40, requires_grad=True), torch.zeros(3, 2)
    with pytest.raises(MemoryError, match=r"^the native kernel found no memory for its scratch"):
        modal_conv(u, modes, modes, backend="native")[0].sum().backward()


@pytest.mark.usefixtures("isa", "poisoned")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("J", [0, 3, 5])
@pytest.mark.parametrize(("B", "D", "L", "n"), [(1, 1, 1, 1), (2, 5, 40, 3), (3, 2, 700, 16)])
def test_between_gates(
    B: int, D: int, L: int, n: int, J: int, kind: str, dtype: torch.dtype,
    generator: torch.Generator,
) -> None:  # fmt: skip
    _, *modes = draw(generator, B, D, L, n, kind, torch.float32)
    z, taps, bias = (
        torch.randn(*shape, generator=generator)
        for shape in ((B, 3 * D, L), (3 * D, max(J, 1)), (3 * D,))
    )
    inputs = [z.to(dtype), *modes, *((taps, bias) if J else ())]

    def op(backend: str) -> Callable[..., Any]:
        def run(z: Tensor, *others: Any) -> Any:
            given: Any = {"short": others[4:] or None, "state": others[3], "backend": backend}
            return gated_modal_conv(z, *others[:3], **given)

        return run

    def wide(*inputs: Tensor) -> Any:
        y, after = op("torch")(*map(widened, inputs))
        return y.to(dtype), after

    got = with_gradients(op("native"), *inputs, of_state=False)
    expected = with_gradients(wide, *inputs, of_state=False)
    assert_each_close(got, expected, tolerances(got, dtype))


@pytest.mark.parametrize("isa", [name for name in library.isas() if name != "portable"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_dies_away_is_zero(kind: str, isa: str) -> None:
    """And not the smallest number there is for good, which takes its time wherever it is read."""
    u, log_decay = torch.zeros(1, 1, 9000), torch.tensor([[-0.02, -0.05]])
    u[..., 4500] = 1
    if kind == "complex":
        log_decay = torch.complex(log_decay, torch.tensor([[0.0, 1.0]]))
    dy = u.flip(2)
    with library.use(isa):
        leaf = u.clone().requires_grad_()
        y, after = modal_conv(leaf, log_decay, torch.ones_like(log_decay), backend="native")
        (du,) = torch.autograd.grad(y, leaf, dy)
    assert not bool(after.any())
    for x in (y.detach(), du.flip(2)):
        assert not bool(x[..., :4499].any())
        assert bool(x[..., 4505:4600].any())
        tail = parts(x)[..., 4500:].abs()
        assert not bool(((tail > 0) & (tail < torch.finfo(torch.float32).tiny)).any())
        assert not bool(x[..., -50:].any())
