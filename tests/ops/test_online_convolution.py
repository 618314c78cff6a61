"""Online convolution equals the convolution of the whole, whatever is cut where."""

import re
from collections.abc import Callable

import pytest
import torch
from comparison import assert_close
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hyena.ops import Backend, naive
from hyena.ops.stepping.online import OnlineFilter, OnlineState, contribution

D = 3


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def prepared(
    h: Tensor, skip: Tensor, room: int, block: int, backend: Backend = "auto"
) -> OnlineFilter:
    """The filters (F, D, n), which have no taps beyond n."""
    filter = OnlineFilter(h.shape[-1], backend, block)
    filter.prepare(room, lambda n: h[..., :n], lambda: skip)
    return filter


def planned(u: Tensor, h: Tensor, prompt: int, room: int) -> Tensor:
    """What the first ``prompt`` inputs u (F, B, D, L) add to the ``room`` outputs after them."""
    known = torch.zeros_like(u[..., : prompt + room])
    known[..., :prompt] = u[..., :prompt]
    lines = [naive.long_conv(x, k)[..., prompt:] for x, k in zip(known, h, strict=True)]
    return torch.cat(lines, dim=1)


def whole(u: Tensor, h: Tensor, skip: Tensor) -> Tensor:
    """The outputs by definition, (F, B, D, L)."""
    return torch.stack([naive.long_conv(x, k, s) for x, k, s in zip(u, h, skip, strict=True)])


def run(state: OnlineState, u: Tensor, start: int, stop: int) -> Tensor:
    """The outputs (F, B, D, stop − start) for the inputs of these positions of u."""
    found = []
    for t in range(start, stop):
        gate = draw(*u.shape[1:3], seed=t).to(u.dtype).abs() + 0.5
        outputs = [
            state.step(part, gate, u[part, ..., t] / gate).clone() for part in range(u.shape[0])
        ]
        state.advance()
        found.append(torch.stack(outputs))
    return torch.stack(found, dim=-1) if found else u[..., :0]


@given(
    parts=st.integers(1, 3),
    batch=st.integers(0, 3),
    prompt=st.integers(0, 9),
    room=st.integers(1, 40),
    log_block=st.integers(0, 4),
)
def test_equals_the_definition(
    parts: int, batch: int, prompt: int, room: int, log_block: int
) -> None:
    u, h = draw(parts, batch, D, prompt + room), draw(parts, D, prompt + room, seed=1)
    skip = draw(parts, D, seed=2)
    state = OnlineState(planned(u, h, prompt, room), parts, block=2**log_block)
    state.filter = prepared(h, skip, room, 2**log_block)
    assert not state.full
    y = run(state, u, prompt, prompt + room)
    assert state.full
    if batch:
        assert_close(y, whole(u, h, skip)[..., prompt:], 1e-13)


@given(
    parts=st.integers(1, 3),
    prompt=st.integers(0, 5),
    pieces=st.lists(st.tuples(st.booleans(), st.integers(0, 23)), max_size=6),
    rest=st.integers(1, 9),
    log_block=st.integers(0, 3),
)
def test_pieces_whose_outputs_are_known_elsewhere_add_to_what_comes(
    parts: int, prompt: int, pieces: list[tuple[bool, int]], rest: int, log_block: int
) -> None:
    room = sum(size for _, size in pieces) + rest
    u, h = draw(parts, 2, D, prompt + room), draw(parts, D, prompt + room, seed=1)
    skip = draw(parts, D, seed=2)
    state = OnlineState(planned(u, h, prompt, room), parts, block=2**log_block)
    state.filter = prepared(h, skip, room, 2**log_block)
    expected, at = whole(u, h, skip), prompt
    for fed, size in [*pieces, (False, rest)]:
        if fed:
            state.feed(u[..., at : at + size].transpose(0, 1).flatten(1, 2))
        else:
            assert_close(run(state, u, at, at + size), expected[..., at : at + size], 1e-13)
        at += size
        if at and (left := prompt + room - at):
            assert_close(state.known(left), planned(u, h, at, left), 1e-12)
    assert state.full


@pytest.mark.parametrize("room", [1, 2, 3, 4, 5, 7, 8, 9, 64, 65, 129, 151, 300])
@pytest.mark.parametrize("backend", ["auto", "torch", "naive"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_each_backend(room: int, backend: Backend, dtype: torch.dtype, bound: float) -> None:
    block = 4 if backend == "naive" else 64
    u, h = draw(1, 2, D, room, dtype=dtype), draw(1, D, room, dtype=dtype, seed=1)
    skip = draw(1, D, dtype=dtype, seed=2)
    state = OnlineState(torch.zeros(2, D, room, dtype=dtype), 1, block=block)
    state.filter = prepared(h, skip, room, block, backend)
    expected = whole(u.double(), h.double(), skip.double())
    assert_close(run(state, u, 0, room), expected, bound, dtype=dtype)


@pytest.mark.parametrize("known", [1, 5, 8, 9])
@pytest.mark.parametrize("room", [1, 3, 8, 20])
def test_planned_anew_from_the_inputs(known: int, room: int) -> None:
    # twice: once from a prompt, and once from a prompt and what came since
    total = known + room + 11
    u, h, skip = draw(2, 2, D, total), draw(2, D, total, seed=1), draw(2, D, seed=2)
    prompt = u[..., :known].transpose(0, 1).flatten(1, 2)  # (B, F·D, known)
    state = OnlineState(prompt[..., :0].clone(), 2, prompt, block=4)
    assert state.full
    filter = state.filter = prepared(h, skip, total, 4)
    state.extend(h, room)
    first = run(state, u, known, known + room)
    state.extend(h, 11)
    assert state.filter is filter
    half = known + room + 5
    second = run(state, u, known + room, half)
    assert state.inputs is not None
    assert_close(state.inputs, u[..., :half].transpose(0, 1).flatten(1, 2), 1e-13)
    third = run(state, u, half, total)
    expected = whole(u, h, skip)[..., known:]
    assert_close(torch.cat([first, second, third], dim=-1), expected, 1e-13)


@pytest.mark.parametrize("at", range(18))
def test_a_value_at_every_position(at: int) -> None:
    room, h, skip = 18, draw(2, D, 18, seed=1), draw(2, D, seed=2)
    u = draw(2, 3, D, room)
    state = OnlineState(torch.zeros(3, 2 * D, room, dtype=torch.float64), 2, block=4)
    state.filter = prepared(h, skip, room, 4)
    expected = whole(u, h, skip)
    run(state, u, 0, at)
    copy, chosen = state.copy(), state.select([2, 2, 0])
    joined = OnlineState.join([state.select(torch.tensor([1])), state.select([0, 2])])
    tensors = {name: x.clone() for name, x in state.tensors().items()}
    stored = OnlineState.from_tensors(tensors, dict(state.settings()))
    stored.filter = state.filter
    for other, rows in (
        (state, [0, 1, 2]),
        (copy, [0, 1, 2]),
        (chosen, [2, 2, 0]),
        (joined, [1, 0, 2]),
        (stored, [0, 1, 2]),
    ):
        assert other.position == at
        y = run(other, u[:, rows], at, room)
        assert_close(y, expected[:, rows, :, at:], 1e-13)


def test_what_inputs_add_to_the_outputs_after_them() -> None:
    for length, room, taps in [
        (1, 1, 2),
        (1, 9, 10),
        (7, 3, 10),
        (8, 8, 16),
        (5, 20, 9),
        (6, 6, 1),
    ]:
        u, h = draw(2, D, length), draw(D, taps, seed=1)
        padded = torch.cat([u, torch.zeros(2, D, room, dtype=u.dtype)], dim=-1)
        expected = naive.long_conv(padded, h)[..., length:]
        found = contribution(u, h, room)
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) < 1e-13


def test_tiles_are_made_once_and_only_those_that_are_needed() -> None:
    asked: list[int] = []

    def taps(n: int) -> Tensor:
        asked.append(n)
        return draw(1, D, 100)[..., :n]

    filter, skip = OnlineFilter(100, block=4), draw(1, D)
    for room in (3, 4, 5, 9, 16, 17, 5, 17, 100):
        filter.prepare(room, taps, lambda: skip)
    assert asked == [4, 8, 16, 32, 100]


@pytest.mark.cpu
def test_states_that_differ_are_not_joined() -> None:
    def state(room: int = 6, **options: int) -> OnlineState:
        return OnlineState(torch.zeros(1, 2, room), 1, **options)

    for other, message in (
        (state(7), r"differ in line, \(1, 2, 6\) of torch.float32 on cpu and \(1, 2, 7\)"),
        (state(position=2), r"the states differ, .*'position': 0.* and .*'position': 2"),
        (state(block=2), r"the states differ, .*'block': 64.* and .*'block': 2"),
    ):
        with pytest.raises(ValueError, match=rf"^OnlineState.join: .*{message}"):
            OnlineState.join([state(), other])


LINE = torch.zeros(1, 4, 3)


@pytest.mark.parametrize(
    ("line", "options", "error", "message"),
    [
        ([0.0], {}, TypeError, "OnlineState: expected a tensor as line, got list"),
        (LINE[0], {}, ValueError, "OnlineState: expected a line (B, F·D, T) and a position from"),
        (LINE, {"parts": 3}, ValueError, "OnlineState: expected a line (B, F·D, T) and a position"),
        (LINE, {"parts": 0}, ValueError, "OnlineState: expected parts from 1 to 2^48, got 0"),
        (LINE, {"parts": 1.0}, TypeError, "OnlineState: expected an integer as parts, got float"),
        (LINE, {"position": 4}, ValueError, "OnlineState: expected a line (B, F·D, T) and a posit"),
        (LINE, {"position": -1}, ValueError, "OnlineState: expected position from 0 to 2^48, got"),
        (LINE, {"position": 2**70}, ValueError, "OnlineState: expected position from 0 to 2^48,"),
        (LINE, {"block": 3}, ValueError, "OnlineState: expected a power of two as block, got 3"),
        (LINE, {"block": 0}, ValueError, "OnlineState: expected block from 1 to 2^48, got 0"),
        (LINE, {"inputs": 1}, TypeError, "OnlineState: expected a tensor or None as inputs, got i"),
        (LINE, {"inputs": LINE[:, :2]}, ValueError, "OnlineState: expected inputs (B, F·D, P) of"),
    ],
)
def test_states_that_cannot_be(
    line: object, options: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        OnlineState(line, **{"parts": 2, **options})


@pytest.mark.parametrize(
    "rows",
    [[3], [-1], [0, 2**70], [[0]], [0.5], ["a"], 0, None, [True, False, True], [[0], [0, 1]]],
)
def test_rows_that_are_not_there(rows: object) -> None:
    state = OnlineState(torch.zeros(3, 4, 3), 2)
    message = "OnlineState.select: expected a list of indices below 3, the number of rows, got "
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        state.select(rows)
    assert state.select([]).line.shape == (0, 4, 3)
    assert state.select(torch.tensor([2, 0], dtype=torch.uint8)).line.shape == (2, 4, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: contribution([1.0], LINE[0], 1),
            TypeError,
            "contribution: expected a tensor as i",
        ),
        (lambda: contribution(LINE, None, 1), TypeError, "contribution: expected a tensor"),
        (
            lambda: contribution(LINE, LINE, 1),
            ValueError,
            "contribution: expected inputs (B, C, L)",
        ),
        (lambda: contribution(LINE, LINE[0], -1), ValueError, "contribution: expected room"),
        (
            lambda: contribution(LINE, LINE[0], 2**63),
            ValueError,
            "contribution: expected room from",
        ),
        (
            lambda: contribution(LINE, LINE[0], "1"),
            TypeError,
            "contribution: expected an integer as",
        ),
        (
            lambda: OnlineFilter(-1),
            ValueError,
            "OnlineFilter: expected limit from 0",
        ),
        (
            lambda: OnlineFilter(9, block=6),
            ValueError,
            "OnlineFilter: expected a power of",
        ),
        (
            lambda: OnlineFilter(9).prepare(-1, lambda n: LINE, lambda: LINE),
            ValueError,
            "OnlineFilter.prepare: expected room from 0 to 2^48, got -1",
        ),
    ],
)
def test_arguments_that_cannot_be(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match="^" + re.escape(message)):
        call()


@pytest.mark.parametrize(("length", "room", "taps"), [(0, 0, 3), (0, 2, 3), (3, 0, 3), (2, 3, 0)])
def test_nothing_adds_nothing(length: int, room: int, taps: int) -> None:
    found = contribution(draw(2, D, length), draw(D, taps), room)
    assert torch.equal(found, torch.zeros(2, D, room, dtype=torch.float64))
