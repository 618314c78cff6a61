"""Filters of few taps, position by position, equal the convolution, from states of one size."""

import copy

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.ops import Backend, naive
from hyena.ops.stepping.finite import FiniteFilter, FiniteState, due_after, finite_filter

D, LENGTH = 3, 40


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filters(parts: int, taps: int) -> tuple[FiniteFilter, Tensor, Tensor]:
    h, skip = draw(parts, D, taps, seed=1), draw(parts, D, seed=2)
    return finite_filter(h, skip), h, skip


def convolved(u: Tensor, h: Tensor, skip: Tensor) -> Tensor:
    """By definition: (F, B, D, L)."""
    return torch.stack([naive.long_conv(x, k, s) for x, k, s in zip(u, h, skip, strict=True)])


def after(u: Tensor, h: Tensor, filter: FiniteFilter) -> FiniteState:
    """The state after u (F, B, D, L)."""
    due = [due_after(x, k) for x, k in zip(u, h, strict=True)]
    state = FiniteState(torch.cat(due, dim=1), len(due))
    state.filter = filter
    return state


def run(state: FiniteState, u: Tensor, start: int, stop: int) -> Tensor:
    found = []
    for t in range(start, stop):
        gate = draw(*u.shape[1:3], seed=t).to(u.dtype).abs() + 0.5
        outputs = [state.step(i, gate, x[..., t] / gate).clone() for i, x in enumerate(u)]
        state.advance()
        found.append(torch.stack(outputs))
    return torch.stack(found, dim=-1)


@pytest.mark.parametrize("taps", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("prompt", [1, 2, 6, 7, 25])
def test_equals_the_definition(parts: int, taps: int, prompt: int) -> None:
    filter, h, skip = filters(parts, taps)
    u = draw(parts, 2, D, LENGTH)
    expected = convolved(u, h, skip)
    state = after(u[..., :prompt], h, filter)
    assert (state.sizes, state.taps, state.full) == ((parts, D), taps, False)
    found = run(state, u, prompt, LENGTH)
    assert_close(found, expected[..., prompt:], 1e-13)
    size = state._rows.numel()
    run(state, u, 0, LENGTH)
    assert state._rows.numel() == size == 2 * taps * parts * 2 * D


@pytest.mark.parametrize("backend", ["torch", "naive", "auto"])
@pytest.mark.parametrize("taps", [1, 2, 7, 20])
@pytest.mark.parametrize("pieces", [(1, 1, 1), (3, 2, 5), (30, 1), (1, 30), (6, 6, 7)])
def test_what_is_due_after_pieces(taps: int, pieces: tuple[int, ...], backend: Backend) -> None:
    h, u = draw(D, taps, seed=1), draw(2, D, sum(pieces))
    ahead = taps - 1
    longer = torch.cat([u, torch.zeros(2, D, ahead, dtype=u.dtype)], dim=-1)
    expected = naive.long_conv(longer, h)[..., u.shape[-1] :]
    due = None
    for piece in u.split(pieces, dim=-1):
        due = due_after(piece, h, due, backend=backend)
    assert due is not None
    assert due.shape == (2, D, ahead)
    if ahead:
        assert_close(due, expected, 1e-13)


@pytest.mark.cpu
def test_a_value() -> None:
    filter, h, skip = filters(2, 5)
    u = draw(2, 3, D, LENGTH)
    expected = convolved(u, h, skip)
    state = after(u[..., :4], h, filter)
    for start, stop in ((4, 5), (5, 9), (9, 16)):  # wherever its numbers stand
        run(state, u, start, stop)
        stored = FiniteState.from_tensors(
            {name: x.clone() for name, x in state.tensors().items()}, dict(state.settings())
        )
        stored.filter = filter
        others = [
            (state.copy(), [0, 1, 2]),
            (copy.copy(state), [0, 1, 2]),
            (state.select([2, 2, 0]), [2, 2, 0]),
            (FiniteState.join([state.select([1]), state.select([0, 2])]), [1, 0, 2]),
            (stored, [0, 1, 2]),
        ]
        exact = run(state.copy(), u, stop, LENGTH)
        for other, rows in others:
            found = run(other, u[:, rows], stop, LENGTH)
            assert_close(found, expected[:, rows, :, stop:], 1e-13)
            if rows == [0, 1, 2]:
                assert torch.equal(found, exact)
    assert state.to("cpu") is state
    assert state.to("meta").due.device.type == "meta"


def test_a_filter_that_changes_counts_for_inputs_to_come() -> None:
    filter, h, skip = filters(1, 4)
    other = FiniteFilter(2 * filter.taps)
    u = draw(1, 2, D, 12)
    state = after(u[..., :6], h, filter)
    state.filter = other
    expected = convolved(u, h, skip)
    later = torch.cat([torch.zeros_like(u[..., :6]), u[..., 6:]], dim=-1)
    expected = expected + convolved(later, h, skip)
    assert_close(run(state, u, 6, 12), expected[..., 6:], 1e-13)


def test_what_cannot_be() -> None:
    message = r"^FiniteState: expected due \(B, F·D, K−1\), got \(1, 4, 3\) and F = 3$"
    with pytest.raises(ValueError, match=message):
        FiniteState(torch.zeros(1, 4, 3), 3)
    with pytest.raises(ValueError, match=r"^FiniteState: expected due \(B, F·D, K−1\), got \(1, 4"):
        FiniteState(torch.zeros(1, 4), 1)
    with pytest.raises(TypeError, match=r"^FiniteState: expected a tensor as due, got None"):
        FiniteState(None, 1)
    with pytest.raises(ValueError, match=r"^FiniteState: expected parts from 1 to "):
        FiniteState(torch.zeros(1, 4, 3), 0)
    for taps in (torch.zeros(1, D), torch.zeros(1, D, 0), torch.zeros(2, D, 4)):
        with pytest.raises(
            ValueError, match=r"^finite_filter: expected taps \(F, D, K\) with K ≥ "
        ):
            finite_filter(taps, torch.zeros(1, D))
    state = FiniteState(torch.zeros(1, 4, 3), 1)
    with pytest.raises(ValueError, match=r"^FiniteState.select: expected a list of .* got 1$"):
        state.select([0, 1])
    with pytest.raises(ValueError, match=r"^FiniteState.join: the states differ in due, \(1, 4, 3"):
        FiniteState.join([state, FiniteState(torch.zeros(1, 4, 2), 1)])
