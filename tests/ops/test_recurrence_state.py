"""A recurrence, step by step, equals the convolution with its exponentials."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor

from hyena.ops import naive
from hyena.ops.stepping.recurrence import Recurrence, RecurrentState, recurrence_of

D, POLES, LENGTH = 3, 4, 30


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filters(parts: int) -> tuple[Recurrence, Tensor, Tensor]:
    """Recurrences, their taps (F, D, L) and their skips."""
    angle, size = draw(parts, D, POLES, seed=1), draw(parts, D, POLES, seed=2).sigmoid()
    decay, weight = torch.polar(size, angle), torch.complex(angle, size - 0.5)
    skip = draw(parts, D, seed=3)
    powers = decay[..., None] ** torch.arange(LENGTH)
    return recurrence_of(decay, weight, skip), 2 * (weight[..., None] * powers).real.sum(2), skip


def real_filters(parts: int) -> tuple[Recurrence, Tensor, Tensor]:
    """The same of real numbers."""
    decay, weight = draw(parts, D, POLES, seed=2).sigmoid(), draw(parts, D, POLES, seed=1)
    skip = draw(parts, D, seed=3)
    powers = decay[..., None] ** torch.arange(LENGTH)
    return recurrence_of(decay, weight, skip), 2 * (weight[..., None] * powers).sum(2), skip


each_kind = pytest.mark.parametrize("make", [filters, real_filters])


def run(state: RecurrentState, u: Tensor, start: int, stop: int) -> Tensor:
    found = []
    for t in range(start, stop):
        gate = draw(*u.shape[1:3], seed=t).to(u.dtype).abs() + 0.5
        outputs = [state.step(i, gate, x[..., t] / gate) for i, x in enumerate(u)]
        state.advance()
        found.append(torch.stack(outputs))
    return torch.stack(found, dim=-1)


def empty(filter: Recurrence, batch: int) -> RecurrentState:
    parts, planes, modes, _, width = filter.decay.shape
    assert filter.sizes == (parts, width, planes * modes)
    shape = (batch, parts, width, modes, planes)
    state = RecurrentState(torch.zeros(shape, dtype=filter.weight.dtype))
    state.filter = filter
    assert filter.fits(state)
    return state


@each_kind
@pytest.mark.parametrize("parts", [1, 3])
def test_equals_the_definition(parts: int, make: Any) -> None:
    filter, h, skip = make(parts)
    u = draw(parts, 2, D, LENGTH)
    expected = torch.stack([naive.long_conv(x, k, s) for x, k, s in zip(u, h, skip, strict=True)])
    state = empty(filter, 2)
    assert_close(run(state, u, 0, LENGTH), expected, 1e-13)
    assert not state.full


@pytest.mark.cpu
@each_kind
def test_a_value(make: Any) -> None:
    filter, h, skip = make(2)
    u = draw(2, 3, D, LENGTH)
    expected = torch.stack([naive.long_conv(x, k, s) for x, k, s in zip(u, h, skip, strict=True)])
    state = empty(filter, 3)
    run(state, u, 0, 7)
    stored = RecurrentState.from_tensors(
        {name: x.clone() for name, x in state.tensors().items()}, state.settings()
    )
    stored.filter = filter
    others = [
        (state.copy(), [0, 1, 2]),
        (state.select([2, 2, 0]), [2, 2, 0]),
        (RecurrentState.join([state.select([1]), state.select([0, 2])]), [1, 0, 2]),
        (stored, [0, 1, 2]),
        (state, [0, 1, 2]),
    ]
    for other, rows in others:
        assert_close(run(other, u[:, rows], 7, LENGTH), expected[:, rows, :, 7:], 1e-13)
    assert state.to("cpu") is state


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"^RecurrentState: expected x \(B, F, D, n/2, 2\), or "):
        RecurrentState(torch.zeros(1, 2, 3, 4))
    with pytest.raises(TypeError, match=r"^RecurrentState: expected a tensor as x, got None"):
        RecurrentState(None)
    with pytest.raises(ValueError, match=r"^recurrence_of: expected decay and weight \(F, D, n/2"):
        recurrence_of(*torch.zeros(2, 1, 3, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match=r"^recurrence_of: expected decay and weight \(F, D, n/2"):
        recurrence_of(torch.zeros(1, 3, 4) + 0j, torch.zeros(1, 3, 4), torch.zeros(1, 3))
    state = RecurrentState(torch.zeros(1, 1, 3, 4, 2))
    with pytest.raises(ValueError, match=r"^RecurrentState.select: expected a list of .* got 1$"):
        state.select([0, 1])
    with pytest.raises(
        ValueError, match=r"^RecurrentState.join: the states differ in x, \(1, 1, 3"
    ):
        RecurrentState.join([state, RecurrentState(torch.zeros(1, 1, 3, 5, 2))])
