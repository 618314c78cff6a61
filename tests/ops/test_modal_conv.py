"""The convolution with sums of exponentials against its definition, and against its taps'."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from backend_cases import cases
from comparison import assert_all_close, assert_close
from modal_cases import assert_each_close, draw, parts, with_gradients, without
from torch import Tensor

from hyena.ops import backends, gated_modal_conv, long_conv, modal_conv, naive

KINDS = ["real", "complex"]
SIZES = [  # B, D, L, n
    (1, 1, 1, 1),
    (2, 3, 1, 4),
    (3, 2, 7, 2),
    (1, 4, 63, 5),
    (2, 3, 64, 1),
    (2, 2, 65, 3),
    (1, 3, 200, 16),
]
# The definition is computed in float64 and rounded.
TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 2e-6,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}
EXACT = {dtype: TOLERANCE[dtype] for dtype in (torch.float64, torch.float32)}


def definition(*x: Tensor | None) -> tuple[Tensor, Tensor]:
    """In float64 whatever comes in, rounded at the end."""
    u = x[0]
    assert u is not None
    wide = (None if a is None else a.to(torch.promote_types(a.dtype, torch.float64)) for a in x)
    given: Any = [*wide]
    y, after = naive.modal_conv(*given[:4], state=given[4])
    return y.to(u.dtype), after


def of(backend: str) -> Callable[..., tuple[Tensor, Tensor]]:
    """The op as a function of its tensors alone."""

    def op(u: Tensor, log_decay: Tensor, weight: Tensor, skip: Any, state: Any) -> Any:
        return modal_conv(u, log_decay, weight, skip, state=state, backend=backend)

    return op


@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("B", "D", "L", "n"), SIZES)
@pytest.mark.parametrize("absent", [(), (3,), (4,)])
def test_equals_the_definition_with_every_gradient(
    B: int, D: int, L: int, n: int, kind: str, absent: Sequence[int], backend: str,
    dtype: torch.dtype, generator: torch.Generator,
) -> None:  # fmt: skip
    inputs = without(draw(generator, B, D, L, n, kind, dtype), absent)
    got = with_gradients(of(backend), *inputs, of_state=False)
    expected = with_gradients(definition, *inputs, of_state=False)
    assert_each_close(got, expected, TOLERANCE[dtype])


@pytest.mark.parametrize(("backend", "dtype"), cases(TOLERANCE, without="naive"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("B", "D", "L", "n"), SIZES)
def test_gradients_of_the_state_after(
    B: int, D: int, L: int, n: int, kind: str, backend: str, dtype: torch.dtype,
    generator: torch.Generator,
) -> None:  # fmt: skip
    inputs = draw(generator, B, D, L, n, kind, dtype)
    got = with_gradients(of(backend), *inputs, of_state=True)
    expected = with_gradients(definition, *inputs, of_state=True)
    assert_each_close(got, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
def test_is_the_long_convolution_with_its_taps(
    kind: str, backend: str, generator: torch.Generator
) -> None:
    u, log_decay, weight, skip, _ = draw(generator, 2, 3, 150, 4, kind)
    t = torch.arange(150)
    taps = (weight[..., None] * (log_decay[..., None] * t).exp()).real.sum(1)
    expected = long_conv(u, taps, skip, backend="torch")
    if backend == "native":
        single = [x.to(torch.complex64 if x.is_complex() else torch.float32)
                  for x in (u, log_decay, weight, skip)]  # fmt: skip
        y, _ = modal_conv(*single, backend="native")
        assert_close(y, expected, 2e-6, dtype=torch.float32)
        return
    y, _ = modal_conv(u, log_decay, weight, skip, backend=backend)
    assert_close(y, expected, 1e-12)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", [1, 64, 100, 128, 299])
def test_the_state_goes_on_where_the_first_part_ends(
    cut: int, kind: str, backend: str, generator: torch.Generator
) -> None:
    u, log_decay, weight, skip, state = draw(generator, 2, 3, 300, 4, kind, torch.float32)
    whole, after = modal_conv(u, log_decay, weight, skip, state=state, backend=backend)
    first, between = modal_conv(u[..., :cut], log_decay, weight, skip, state=state, backend=backend)
    second, last = modal_conv(u[..., cut:], log_decay, weight, skip, state=between, backend=backend)
    assert_close(torch.cat([first, second], 2), whole, 2e-6)
    assert_close(parts(last), parts(after), 2e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
def test_a_group_has_one_filter(kind: str, backend: str, generator: torch.Generator) -> None:
    u, log_decay, weight, skip, state = draw(generator, 2, 6, 40, 3, kind, torch.float32)
    groups = [log_decay[:2], weight[:2]]
    every = [x.repeat_interleave(3, 0) for x in groups]
    op = of(backend)
    got = with_gradients(op, u, *groups, skip, state, of_state=False)
    expected = with_gradients(op, u, *every, skip, state, of_state=False)
    for i in (3, 4):  # those of the modes are sums over the group
        expected[i] = expected[i].unflatten(0, (2, 3)).sum(1)
    assert_all_close(got, expected, 1e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("t", [0, 5, 64, 139])
def test_is_exactly_causal(t: int, kind: str, backend: str, generator: torch.Generator) -> None:
    u, log_decay, weight, skip, state = draw(generator, 2, 3, 140, 4, kind, torch.float32)
    moved = u.clone()
    moved[..., t] += 1e6
    y, _ = modal_conv(u, log_decay, weight, skip, state=state, backend=backend)
    z, _ = modal_conv(moved, log_decay, weight, skip, state=state, backend=backend)
    assert torch.equal(z[..., :t], y[..., :t])
    assert not bool((z[..., t] == y[..., t]).any())


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
def test_modes_that_hardly_decay(kind: str, backend: str, generator: torch.Generator) -> None:
    """Rounding adds up over the positions that a mode lives for; no decay is rounded by itself."""
    u, log_decay, weight, skip, state = draw(generator, 1, 2, 6000, 2, kind, torch.float32)
    slow = torch.full((2, 2), -1e-4)
    log_decay = torch.complex(slow, log_decay.imag) if kind == "complex" else slow
    got = modal_conv(u, log_decay, weight, skip, state=state, backend=backend)
    expected = definition(u, log_decay, weight, skip, state)
    # The definition itself takes a rounded decay to each position's power.
    tolerance = 1e-3 if backend == "naive" else 5e-6
    assert_close(got[0], expected[0], tolerance)
    assert_close(parts(got[1]).double(), parts(expected[1]), tolerance)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of_state", [False, True])
def test_logarithms_of_decays_may_be_wider_than_the_rest(
    of_state: bool, kind: str, backend: str, generator: torch.Generator
) -> None:
    """They count with all their digits, and have gradients of their dtype; the rest is as it is."""
    u, log_decay, *others = draw(generator, 1, 2, 700, 3, kind, torch.float32)
    log_decay = log_decay.to(torch.promote_types(log_decay.dtype, torch.float64)) * (1 + 1e-9)
    y, after = of(backend)(u, log_decay, *others)
    assert (y.dtype, after.dtype) == (torch.float32, others[0].dtype)
    got = with_gradients(of(backend), u, log_decay, *others, of_state=of_state)
    expected = with_gradients(definition, u, log_decay, *others, of_state=of_state)
    assert got[3].dtype == torch.float64
    assert_each_close(got, expected, 5e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
def test_modes_that_vanish_at_once(kind: str, backend: str, generator: torch.Generator) -> None:
    u, log_decay, weight, _, _ = draw(generator, 1, 2, 50, 2, kind, torch.float32)
    y, after = modal_conv(u, log_decay - 300, weight, backend=backend)
    assert_close(y, weight.real.sum(1)[:, None] * u, 1e-6)
    assert_close(after.real, u[..., -1:].expand(1, 2, 2), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_first_and_second_derivatives(kind: str, generator: torch.Generator) -> None:
    inputs = [x.requires_grad_() for x in draw(generator, 1, 2, 4, 2, kind)]
    assert torch.autograd.gradcheck(of("auto"), inputs)
    assert torch.autograd.gradgradcheck(of("auto"), inputs)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("times", [1, 2])
def test_gradients_of_gradients_in_float32(
    times: int, kind: str, backend: str, generator: torch.Generator
) -> None:
    """Also where the input is made of the modes: their gradient counts once all the same."""

    def second(op: Callable[..., Any], given: Sequence[Tensor]) -> list[Tensor]:
        leaves = [x.detach().requires_grad_() for x in given]
        y, *others = leaves
        for _ in range(times):
            y, _ = op(y, *others)
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
        size = sum((parts(x).pow(2).sum() for x in first), torch.zeros(()))
        return [parts(x).double() for x in torch.autograd.grad(size, leaves)]

    inputs = draw(generator, 1, 2, 30, 2, kind, torch.float32)
    wide = [x.to(torch.promote_types(x.dtype, torch.float64)) for x in inputs]
    assert_all_close(
        second(of(backend), inputs), second(definition, wide), 1e-5 * 10 ** (times - 1)
    )


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of_state", [False, True])
def test_gradients_through_a_chain_of_states(
    of_state: bool, kind: str, backend: str, generator: torch.Generator
) -> None:
    """Each state is made of the modes, whose gradients count once all the same."""
    inputs = draw(generator, 2, 3, 90, 4, kind, torch.float32)

    def chain(u: Tensor, log_decay: Tensor, weight: Tensor, skip: Any, state: Any) -> Any:
        found = []
        for piece in u.split(30, 2):
            given: Any = {"state": state, "backend": backend}
            y, state = modal_conv(piece, log_decay, weight, skip, **given)
            found.append(y)
        return torch.cat(found, 2), state

    got = with_gradients(chain, *inputs, of_state=of_state)
    expected = with_gradients(definition, *inputs, of_state=of_state)
    assert_each_close(got, expected, 2e-5 if backend == "naive" else 5e-6)


@pytest.mark.parametrize("backend", backends())
def test_a_chain_of_states_whose_weights_alone_are_trained(
    backend: str, generator: torch.Generator
) -> None:
    """The state does not depend on them."""
    u, log_decay, weight, skip, _ = draw(generator, 2, 3, 60, 4, "real", torch.float32)
    weight.requires_grad_()
    first, state = modal_conv(u[..., :30], log_decay, weight, skip, backend=backend)
    second, _ = modal_conv(u[..., 30:], log_decay, weight, skip, state=state, backend=backend)
    (got,) = torch.autograd.grad((first.sum() + second.sum()), weight)
    y, _ = modal_conv(u, log_decay, weight, skip, backend="torch")
    (expected,) = torch.autograd.grad(y.sum(), weight)
    assert_close(got, expected, 2e-5 if backend == "naive" else 5e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_vmap(kind: str, generator: torch.Generator) -> None:
    u, log_decay, weight, skip, state = draw(generator, 2, 3, 70, 2, kind)
    us, weights = torch.stack([u, 2 * u, u.flip(-1)]), torch.stack([weight, -weight, 2 * weight])

    def op(u: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return modal_conv(u, log_decay, weight, skip, state=state)

    got = torch.func.vmap(op)(us, weights)
    expected = [op(a, b) for a, b in zip(us, weights, strict=True)]
    for i in range(2):
        assert_close(parts(got[i]), parts(torch.stack([x[i] for x in expected])), 1e-13)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # inside torch.func
def test_forward_mode(generator: torch.Generator) -> None:
    inputs = tuple(draw(generator, 1, 2, 9, 2, "real"))
    tangents = tuple(torch.randn(x.shape, generator=generator).to(x) for x in inputs)
    got = torch.func.jvp(of("auto"), inputs, tangents)
    expected = torch.func.jvp(of("naive"), inputs, tangents)
    for a, b in zip(got, expected, strict=True):
        assert_all_close(a, b, 1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_compiles_to_one_graph(kind: str, generator: torch.Generator) -> None:
    inputs = draw(generator, 1, 2, 70, 2, kind, torch.float32)
    compiled = torch.compile(of("auto"), fullgraph=True, backend="aot_eager")
    got, expected = compiled(*inputs), definition(*inputs)
    assert_close(got[0], expected[0], 2e-6)
    assert_close(parts(got[1]).double(), parts(expected[1]), 2e-6)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0, 3, 5), (2, 0, 5), (2, 3, 0)])
def test_empty_inputs(shape: tuple[int, int, int], kind: str, backend: str) -> None:
    B, D, _ = shape
    dtype = torch.complex64 if kind == "complex" else torch.float32
    u = torch.zeros(shape, dtype=torch.bfloat16, requires_grad=True)
    modes = [torch.randn(D, 4, dtype=dtype, requires_grad=True) for _ in range(2)]
    skip, state = torch.randn(D, requires_grad=True), torch.randn(B, D, 4, dtype=dtype)
    y, after = modal_conv(u, *modes, skip, state=state, backend=backend)
    assert (y.shape, y.dtype) == (u.shape, u.dtype)
    assert torch.equal(after, state)
    leaves = [u, *modes, skip]
    for x, gradient in zip(leaves, torch.autograd.grad(y.sum(), leaves), strict=True):
        assert torch.equal(gradient, torch.zeros_like(x))


def test_meta_tensors() -> None:
    u = torch.empty(2, 3, 70, device="meta", dtype=torch.bfloat16)
    y, after = modal_conv(u, *torch.empty(2, 3, 4, device="meta"))
    assert (y.shape, y.dtype, y.device.type) == (u.shape, u.dtype, "meta")
    assert (after.shape, after.dtype) == ((2, 3, 4), torch.float32)


@pytest.mark.cpu
@pytest.mark.parametrize("backend", backends())
def test_autocast_rounds_nothing(backend: str, generator: torch.Generator) -> None:
    inputs = draw(generator, 2, 3, 100, 4, "real", torch.float32)
    expected = of(backend)(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        got = of(backend)(*inputs)
    assert_all_close(got, expected, 1e-7)


@pytest.mark.cpu
def test_arguments_that_do_not_fit() -> None:
    u, modes, skip = torch.zeros(2, 4, 10), torch.zeros(4, 3), torch.zeros(4)
    state = torch.zeros(2, 4, 3)
    for message, bad in [
        (r"expected floating point u \(B, D, L\), got \(4, 10\) of torch.float32$",
         (u[0], modes, modes)),
        (r"expected floating point u .*, got .* of torch.int64$", (u.long(), modes, modes)),
        (r"expected log_decay and weight \(D, n\) with n ≥ 1, got \(4, 3\) and \(4, 2\)$",
         (u, modes, modes[:, :2])),
        (r"expected log_decay and weight \(D, n\) with n ≥ 1, got \(4, 0\) and \(4, 0\)$",
         (u, modes[:, :0], modes[:, :0])),
        (r"log_decay and weight have 3 rows but D is 4; expected D rows, or a divisor of it$",
         (u, modes[:3], modes[:3])),
        (r"expected log_decay, weight and state all floating point or all complex, got log_decay "
         r"of torch.float32 and weight of torch.complex64$", (u, modes, modes.to(torch.complex64))),
        (r"expected log_decay, weight .* and log_decay of torch.int64$",
         (u, modes.long(), modes.long())),
        (r"expected floating point skip of shape \(D,\) = \(4,\), got \(3,\)",
         (u, modes, modes, skip[:3])),
        (r"u is on cpu but weight is on meta; move one of them$", (u, modes, modes.to("meta"))),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=f"^modal_conv: {message}"):
            modal_conv(*bad)
    for bad_state in (state[:1], state[..., :2]):
        with pytest.raises(ValueError, match=r"^modal_conv: expected state .* = \(2, 4, 3\), got"):
            modal_conv(u, modes, modes, state=bad_state)
    with pytest.raises(ValueError, match=r"and state of torch.complex64$"):
        modal_conv(u, modes, modes, state=state.to(torch.complex64))
    with pytest.raises(ValueError, match=r"^backend='best' is unknown; expected one of"):
        modal_conv(u, modes, modes, backend="best")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^modal_conv: expected a tensor as weight, got float"):
        modal_conv(u, modes, 1.0)  # type: ignore[arg-type]
    if "native" in backends():
        with pytest.raises(ValueError, match=r'^modal_conv: backend="native" takes float32'):
            modal_conv(u.double(), modes, modes, backend="native")


@pytest.mark.parametrize(("backend", "dtype"), cases(EXACT, without="naive"))
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("J", [0, 3, 4, 65])
@pytest.mark.parametrize("L", [1, 70, 150])
def test_between_gates(
    L: int, J: int, kind: str, backend: str, dtype: torch.dtype, generator: torch.Generator
) -> None:
    _, *modes = draw(generator, 2, 3, L, 4, kind, dtype)
    z, taps, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
        for shape in ((2, 9, L), (9, max(J, 1)), (9,))
    )
    inputs = [z, *modes, *((taps, bias) if J else ())]

    def op(z: Tensor, log_decay: Tensor, weight: Tensor, skip: Any, state: Any, *short: Any) -> Any:
        given: Any = {"short": short or None, "state": state, "backend": backend}
        return gated_modal_conv(z, log_decay, weight, skip, **given)

    def expected(z: Tensor, *others: Tensor) -> Any:
        wide: list[Any] = [x.to(torch.promote_types(x.dtype, torch.float64)) for x in (z, *others)]
        y, after = naive.gated_modal_conv(*wide[:4], state=wide[4], short=tuple(wide[5:]) or None)
        return y.to(z.dtype), after

    for of_state in (False, True):
        got = with_gradients(op, *inputs, of_state=of_state)
        wanted = with_gradients(expected, *inputs, of_state=of_state)
        assert_each_close(got, wanted, 2 * EXACT[dtype])


@pytest.mark.cpu
def test_arguments_that_do_not_fit_between_gates() -> None:
    z, modes = torch.zeros(2, 6, 10), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"^gated_modal_conv: expected floating point z \(B, 3·D"):
        gated_modal_conv(z[:, :5], modes, modes)
    with pytest.raises(ValueError, match=r"^gated_modal_conv: k has 5 channels but z has 6;"):
        gated_modal_conv(z, modes, modes, short=(torch.zeros(5, 3), None))
    with pytest.raises(ValueError, match=r"^gated_modal_conv: expected short = \(taps"):
        gated_modal_conv(z, modes, modes, short=torch.zeros(6, 3))  # type: ignore[arg-type]
