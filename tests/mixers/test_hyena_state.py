"""A Hyena operator's steps equal its forward pass, across blocks, tiles and plans."""

import copy
import pickle
import re
from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.filters import DiagonalSSM, HyenaFilter, LongFilter
from hyena.mixers import S4D, CausalSelfAttention, HyenaOperator, HyenaState
from hyena.ops import Backend
from hyena.ops.stepping import online
from hyena.ops.stepping.online import OnlineState

D, M = 6, 80


@pytest.fixture(params=[1, 2, 8])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks so small that a short sequence has many."""
    monkeypatch.setattr(online, "BLOCK", request.param)
    return request.param


def make(order: int = 2, dtype: torch.dtype = torch.float64, **options: object) -> HyenaOperator:
    op = HyenaOperator(D, M, order, dtype=torch.float64, **options)  # the same weights for all
    return op.to(dtype).eval()


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(
        dtype
    )


def steps(op: HyenaOperator, u: Tensor, state: HyenaState, start: int, stop: int) -> Tensor:
    """The outputs of the tokens of these positions."""
    outputs = []
    for t in range(start, stop):
        y, state = op.step(u[:, t], state)
        outputs.append(y)
    return torch.stack(outputs, dim=1)


class Transposing(torch.nn.Module):
    """A linear layer whose output has the strides of its transpose."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, u: Tensor) -> Tensor:
        return self.layer(u).transpose(0, -1).contiguous().transpose(0, -1)


@pytest.mark.parametrize("batch", [1, 3, 9])
@pytest.mark.parametrize("replaced", ["in_proj", "out_proj"])
@torch.no_grad()
def test_a_layer_of_any_kind_may_stand_for_a_projection(replaced: str, batch: int) -> None:
    op, u = make(dtype=torch.float32), draw(batch, M, D, dtype=torch.float32)
    wanted = op(u)
    setattr(op, replaced, Transposing(getattr(op, replaced)))
    y, state = op.prefill(u[:, :5])
    assert_close(torch.cat([y, steps(op, u, state, 5, M)], dim=1), wanted, 5e-6)


@torch.no_grad()
def test_a_projection_that_writes_to_its_output_again_spoils_no_state() -> None:
    op, u = make(dtype=torch.float32), draw(2, M, D, dtype=torch.float32)
    wanted, last = op(u), []

    def keep(module: torch.nn.Module, inputs: object, output: Tensor) -> None:
        for earlier in last:
            earlier.zero_()
        last[:] = [output]

    y, state = op.prefill(u[:, :5])
    op.in_proj.register_forward_hook(keep)
    assert_close(torch.cat([y, steps(op, u, state, 5, M)], dim=1), wanted, 5e-6)


def with_other_memory(op: HyenaOperator) -> None:
    op.in_proj.weight.data = 2 * op.in_proj.weight.data


def with_another_parameter(op: HyenaOperator) -> None:
    op.out_proj.bias = torch.nn.Parameter(torch.ones(D))


def without_a_bias(op: HyenaOperator) -> None:
    op.in_proj.bias = None


def with_another_layer(op: HyenaOperator) -> None:
    op.out_proj = torch.nn.Linear(D, D)


def with_a_hook(op: HyenaOperator) -> None:
    op.in_proj.register_forward_pre_hook(lambda module, inputs: (3 * inputs[0],))


def with_a_hooked_convolution(op: HyenaOperator) -> None:
    op.short_conv.register_forward_hook(lambda module, inputs, output: 2 * output)


def with_a_forward_of_its_own(op: HyenaOperator) -> None:
    forward = op.out_proj.forward
    op.out_proj.forward = lambda x: -forward(x)


def with_a_parametrisation(op: HyenaOperator) -> None:
    torch.nn.utils.parametrizations.weight_norm(op.in_proj)
    op.in_proj.parametrizations.weight.original0.data.mul_(2)


def with_another_filter(op: HyenaOperator) -> None:
    op.filter = make(3, torch.float32).filter
    op.filter.skip.data.add_(1)


def with_another_convolution(op: HyenaOperator) -> None:
    op.short_conv = make(3, torch.float32).short_conv
    op.short_conv.weight.data.add_(1)


def without_the_kernel(op: HyenaOperator) -> None:
    op.backend = "torch"


@pytest.mark.parametrize(
    "change",
    [
        with_other_memory,
        with_another_parameter,
        without_a_bias,
        with_another_layer,
        with_a_hook,
        with_a_hooked_convolution,
        with_a_forward_of_its_own,
        with_a_parametrisation,
        with_another_filter,
        with_another_convolution,
        without_the_kernel,
    ],
)
@torch.no_grad()
def test_a_change_between_two_steps_counts_at_the_next(
    change: Callable[[HyenaOperator], None],
) -> None:
    op, u = make(3, torch.float32), draw(2, M, D, dtype=torch.float32)
    _, state = op.prefill(u[:, :5])
    before = steps(op, u, state, 5, 9)
    kept = copy.deepcopy(state)  # has found nothing yet of what a step may do
    change(op)
    found = steps(op, u, state, 9, 20)
    assert torch.equal(found, steps(op, u, kept, 9, 20))
    if change is not without_the_kernel:
        again = steps(op, u, op.prefill(u[:, :5])[1], 5, 9)
        assert float((again - before).norm()) > 0.01 * float(before.norm())


@pytest.mark.cpu
@torch.no_grad()
def test_a_step_under_autocast_is_that_of_the_modules() -> None:
    op, u = make(dtype=torch.float32), draw(2, M, D, dtype=torch.float32)
    _, state = op.prefill(u[:, :5])
    steps(op, u, state, 5, 9)
    kept = copy.deepcopy(state)
    with torch.autocast("cpu", torch.bfloat16):
        found = op.step(u[:, 9], state)[0]
        assert found.dtype == torch.bfloat16
        assert torch.equal(found, op.step(u[:, 9], kept)[0])


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize(
    ("prompt", "future", "keep_inputs"),
    [(1, 79, False), (37, 43, False), (33, 1, False), (16, 16, True), (5, None, False)],
)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@torch.no_grad()
def test_steps_are_the_forward_pass(
    block: int,
    order: int,
    prompt: int,
    future: int | None,
    keep_inputs: bool,
    dtype: torch.dtype,
    bound: float,
) -> None:
    op, u = make(order, dtype), draw(2, M, D, dtype=dtype)
    stop = M if future is None or keep_inputs else prompt + future
    y, state = op.prefill(u[:, :prompt], future=future, keep_inputs=keep_inputs)
    assert state.long.block == block
    found = torch.cat([y, steps(op, u, state, prompt, stop)], dim=1)
    assert_close(found, op(u[:, :stop]), bound)


@pytest.mark.parametrize("future", [None, 50])
@torch.no_grad()
def test_prompts_of_different_lengths(block: int, future: int | None) -> None:
    op, u = make(3), draw(3, 80, D)
    starts = [0, 7, 21]
    mask = torch.arange(30) >= torch.tensor(starts)[:, None]
    y, state = op.prefill(u[:, :30], mask=mask, future=future)
    found = torch.cat([y, steps(op, u, state, 30, 80)], dim=1)
    for row, start in enumerate(starts):
        assert_close(found[row, start:], op(u[row : row + 1, start:])[0], 1e-12)


@pytest.mark.parametrize("backend", ["auto", "torch", "naive"])
@pytest.mark.parametrize("block_causal", [True, False])
@torch.no_grad()
def test_each_backend(block: int, backend: Backend, block_causal: bool) -> None:
    op, u = make(3, backend=backend, block_causal=block_causal), draw(1, M, D)
    _, state = op.prefill(u[:, :20], future=60)
    assert_close(steps(op, u, state, 20, M), op(u)[:, 20:], 1e-12)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 3e-2), (torch.float16, 4e-3)])
@torch.no_grad()
def test_narrow_dtypes(block: int, dtype: torch.dtype, bound: float) -> None:
    # sums are kept in float32, so that steps are no worse than the forward pass
    op, u = make(3, dtype), draw(2, M, D, dtype=dtype)
    expected = copy.deepcopy(op).double()(u.double())
    for future in (None, 70):
        y, state = op.prefill(u[:, :10], future=future)
        found = torch.cat([y, steps(op, u, state, 10, M)], dim=1)
        assert_close(found, expected, bound, dtype=dtype)
        assert state.tensors()["line"].dtype == torch.float32


@pytest.mark.cpu
@torch.no_grad()
def test_autocast() -> None:
    op, u = make(3, torch.float32), draw(2, M, D, dtype=torch.float32)
    for future in (None, 70):
        with torch.autocast("cpu", torch.bfloat16):
            _, state = op.prefill(u[:, :10], future=future)
            found = steps(op, u, state, 10, M)
        assert_close(found, op(u)[:, 10:], 4e-2, dtype=torch.bfloat16)


@torch.no_grad()
def test_a_block_of_another_size_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # as of a state that another version of the package wrote
    op, u = make(3), draw(2, M, D)
    monkeypatch.setattr(online, "BLOCK", 4)
    _, state = op.prefill(u[:, :10], future=70)
    steps(op, u, state, 10, 31)
    monkeypatch.setattr(online, "BLOCK", 16)
    again = HyenaState.from_tensors(state.tensors(), state.settings())
    assert_close(steps(op, u, again, 31, M), op(u)[:, 31:], 1e-12)


@torch.no_grad()
def test_what_was_planned_for_does_not_depend_on_the_prompt() -> None:
    op, u = make(3), draw(1, M, D)
    sizes = []
    for prompt in (1, 30, 60):
        _, state = op.prefill(u[:, :prompt], future=9)
        sizes.append({name: x.numel() for name, x in state.tensors().items()})
    assert sizes[0] == sizes[1] == sizes[2]


@torch.no_grad()
def test_a_plan_that_two_calls_used_up_names_no_number_that_nobody_gave() -> None:
    op, u = make(), draw(1, 20, D)
    _, state = op.prefill(u[:, :10], future=4)
    _, state = op.step(u[:, 10], state)
    _, state = op.prefill(u[:, 11:14], state=state)
    line = (
        "HyenaOperator.step: the 14 tokens that were planned for have come, the prompt's among "
        "them; plan for more (future=), or prefill with keep_inputs=True"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(line)}$"):
        op.step(u[:, 14], state)


@torch.no_grad()
def test_a_plan_may_be_empty() -> None:
    op, u = make(), draw(1, M, D)
    y, state = op.prefill(u, future=0)
    assert_close(y, op(u), 1e-12)
    with pytest.raises(ValueError, match=r"^the input is 81 long but max_length is 80"):
        op.step(u[:, 0], state)
    _, state = op.prefill(u[:, :-1], future=0)
    with pytest.raises(ValueError, match=r"tokens that were planned for have come"):
        op.step(u[:, 0], state)
    _, state = op.prefill(u[:, :-1], future=0, keep_inputs=True)
    assert_close(op.step(u[:, -1], state)[0], op(u)[:, -1], 1e-12)


@torch.no_grad()
def test_a_state_that_grows_plans_no_further_than_the_policy_lets_it() -> None:
    asked: list[int] = []

    class Listening(HyenaFilter):
        def forward(self, length: int) -> Tensor:
            asked.append(length)
            return super().forward(length)

    for policy in ("error", "interpolate", "extrapolate"):
        filter = Listening(D, M, length_policy=policy, dtype=torch.float64)
        op, u = make(filter=filter), draw(1, M, D)
        _, state = op.prefill(u[:, :50])
        assert_close(steps(op, u, state, 50, M), op(u)[:, 50:], 1e-12)
        assert (max(asked) > M) == (policy == "extrapolate")
        asked.clear()


@torch.no_grad()
def test_the_state_of_a_copy_of_the_operator() -> None:
    op, u = make(3), draw(1, M, D)
    _, state = op.prefill(u[:, :10], future=70)
    steps(op, u, state, 10, 20)
    other = copy.deepcopy(op)
    assert_close(steps(other, u, state, 20, M), op(u)[:, 20:], 1e-12)


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@torch.no_grad()
def test_the_operator_may_become_less_precise(recurrent: bool, stored: bool, block: int) -> None:
    filter = LongFilter(DiagonalSSM(D, state=4), D, M) if recurrent else None
    op, u = make(filter=filter).double(), draw(2, M, D)
    expected = op(u)[:, 20:]
    _, state = op.prefill(u[:, :20])  # plans anew as it goes
    first = steps(op, u, state, 20, 27)
    if stored:
        state = HyenaState.from_tensors(state.tensors(), state.settings())
    rest = steps(op.float(), u.float(), state, 27, M)
    assert_close(torch.cat([first.double(), rest.double()], dim=1), expected, 5e-6)


@torch.no_grad()
def test_the_default_dtype_has_no_say() -> None:
    op, u = make(dtype=torch.float32), draw(1, M, D, dtype=torch.float32)
    expected = op(u)[:, 20:]
    _, state = op.prefill(u[:, :20], future=60)
    torch.set_default_dtype(torch.float64)
    try:
        found = steps(op, u, state, 20, M)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_close(found, expected, 5e-6)


@pytest.mark.cpu
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@torch.no_grad()
def test_duplicates_go_on_by_themselves(
    duplicate: Callable[[HyenaState], HyenaState], dtype: torch.dtype, bound: float, block: int
) -> None:
    op, u = make(3, dtype), draw(2, M, D, dtype=dtype)
    expected = op(u)[:, 25:]
    _, state = op.prefill(u[:, :20], future=60)
    steps(op, u, state, 20, 25)
    other = duplicate(state)
    for each in (state, other):
        assert_close(steps(op, u, each, 25, M), expected, bound)


@pytest.mark.parametrize("order", [2, 3])
@torch.no_grad()
def test_recurrences_have_a_state_of_one_size(order: int) -> None:
    taps = DiagonalSSM(D, filters=order - 1, state=4, dtype=torch.float64)
    filter = LongFilter(
        taps, D, M, filters=order - 1, length_policy="extrapolate", dtype=torch.float64
    )
    op, u = make(order, filter=filter), draw(2, 3 * M, D)
    for options in ({}, {"future": 1}, {"future": 1, "keep_inputs": True}):
        _, state = op.prefill(u[:, :50], **options)
        assert_close(steps(op, u, state, 50, 3 * M), op(u)[:, 50:], 1e-10)
        assert sum(x.numel() for x in state.tensors().values()) == 2 * op.state_size(50)
    assert op.state_size(1) == op.state_size(10**6, 10**6)


@torch.no_grad()
def test_recurrences_stop_at_max_length_by_policy() -> None:
    filter = LongFilter(DiagonalSSM(D, state=4), D, M)
    op, u = HyenaOperator(D, M, filter=filter).eval(), draw(1, M, D, dtype=torch.float32)
    _, state = op.prefill(u)
    with pytest.raises(ValueError, match=r"^the input is 81 long but max_length is 80"):
        op.step(u[:, 0], state)


@torch.no_grad()
def test_states_of_other_operators_are_refused() -> None:
    u = draw(1, 9, D)
    few, many = (make(filter=LongFilter(DiagonalSSM(D, state=n), D, M).double()) for n in (4, 6))
    message = "HyenaOperator.step: the state, a HyenaState, is that of a mixer of another kind or"
    for op in (few, make()):
        _, state = op.prefill(u, future=3)
        for other in (many, make(3), make(short_width=4), make() if op is few else few):
            with pytest.raises(ValueError, match=f"^{message}"):
                other.step(u[:, 0], state)


def test_parts_of_a_state_that_do_not_fit() -> None:
    long = OnlineState(torch.zeros(1, 4, 3), 1)
    with pytest.raises(
        ValueError, match=r"^HyenaState: expected short \(B, C, K−1\), got \(1, 12\)"
    ):
        HyenaState(torch.zeros(1, 12), long, 3)


@pytest.mark.parametrize("rows", [[0, 3], [-1], [[0, 1]], [1.5]])
@torch.no_grad()
def test_rows_that_are_not_there_are_refused(rows: object) -> None:
    u = draw(3, 4, D, dtype=torch.float32)
    for mixer in (make(dtype=torch.float32), CausalSelfAttention(D), S4D(D)):
        _, state = mixer.prefill(u, future=2)
        name = type(state).__name__
        with pytest.raises(ValueError, match=f"^{name}.select: expected a list of indices below 3"):
            state.select(rows)


@pytest.mark.parametrize("future", [-1, 2**63, 1.5, "3"])
def test_a_future_that_cannot_be(future: object) -> None:
    with pytest.raises(
        ValueError, match=r"^HyenaOperator.prefill: expected future ≥ 0 tokens, got"
    ):
        make().prefill(draw(1, 4, D), future=future)
