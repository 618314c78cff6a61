"""One position at a time through the kernel, against the definition in float64."""

import pytest
import torch
from torch import Tensor

from hyena.ops.native.step import OnlineStep, RecurrentStep


def definition(
    z: Tensor,
    before: list[Tensor],
    taps: Tensor,
    bias: Tensor,
    near: Tensor,
    due: Tensor,
    row: int,
    rest: int,
) -> tuple[Tensor, list[Tensor], Tensor]:
    """y, the long convolutions' inputs, and what is due then, all in float64."""
    z, taps, bias, near, due = (x.double() for x in (z, taps, bias, near, due))
    x = bias + sum(tap * past.double() for tap, past in zip(taps, [z, *before], strict=True))
    *gates, v = x.split(near.shape[2], dim=1)
    inputs = []
    for i, gate in enumerate(reversed(gates[1:])):
        u = v * gate
        inputs.append(u)
        for lag in range(rest):
            due[row + lag, i] += near[i, lag] * u
        v = due[row, i]
    return v * gates[0], inputs, due


@pytest.mark.usefixtures("isa", "two_threads")
@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize(("B", "D", "J"), [(1, 9, 1), (2, 37, 3), (3, 300, 4), (40, 600, 3)])
def test_a_step_is_its_definition(B: int, D: int, J: int, order: int) -> None:
    S, F, C = 12, order - 1, (order + 1) * D
    generator = torch.Generator().manual_seed(D)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    taps, bias, near = draw(J, C), draw(C), draw(F, S, D)
    recent, due = draw(S, F, B, D), draw(S, F, B, D)
    step = OnlineStep((taps, bias), near[:, :, None], recent, due)
    for row, rest in ((0, 12), (5, 7), (5, 3), (11, 1)):
        z, before = draw(B, C), [draw(B, C) for _ in range(J - 1)]
        y, inputs, after = definition(z, before, taps, bias, near, due, row, rest)
        old = recent.clone()
        got, same = step(z, before, None, row, rest)
        assert same is z
        assert torch.linalg.norm(got - y) <= 1e-6 * torch.linalg.norm(y)
        assert torch.linalg.norm(due - after) <= 1e-6 * torch.linalg.norm(after)
        for i, u in enumerate(inputs):
            assert torch.linalg.norm(recent[row, i] - u) <= 1e-6 * torch.linalg.norm(u)
        old[row] = recent[row]
        assert torch.equal(recent, old)  # nothing else is written


@pytest.mark.usefixtures("isa", "two_threads")
@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize(
    ("B", "D", "J", "modes"), [(1, 9, 1, 1), (2, 37, 3, 5), (3, 300, 4, 32), (9, 600, 3, 8)]
)
def test_a_recurrent_step_is_its_definition(B: int, D: int, J: int, modes: int, order: int) -> None:
    F, C = order - 1, (order + 1) * D
    generator = torch.Generator().manual_seed(D)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    taps, bias, skip = draw(J, C), draw(C), draw(F, D)
    decay, weight = 0.5 * draw(F, 2, modes, 1, D), draw(F, 2, modes, 1, D)
    states = draw(F, 2, modes, B, D)
    step = RecurrentStep((taps, bias), decay, weight, skip, states)
    for _ in range(3):
        z, before = draw(B, C), [draw(B, C) for _ in range(J - 1)]
        x = bias.double() + sum(a * b for a, b in zip(taps.double(), [z, *before], strict=True))
        *gates, v = x.split(D, dim=1)
        after = states.double()
        for i, gate in enumerate(reversed(gates[1:])):
            u = v * gate
            turned = torch.complex(*after[i]) * torch.complex(*decay[i].double()) + u
            after[i] = torch.stack([turned.real, turned.imag])
            v = (after[i] * weight[i].double()).sum((0, 1)) + skip[i].double() * u
        y = v * gates[0]
        got, _ = step(z, before, None)
        assert torch.linalg.norm(got - y) <= 1e-6 * torch.linalg.norm(y)
        assert torch.linalg.norm(states - after) <= 1e-6 * torch.linalg.norm(after)


@pytest.mark.usefixtures("isa", "two_threads")
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 4e-3), (torch.float16, 6e-4)]
)
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize(("B", "D", "J"), [(1, 9, 1), (2, 37, 3), (8, 300, 4)])
def test_a_step_with_its_projections(
    B: int, D: int, J: int, beside: bool, dtype: torch.dtype, bound: float
) -> None:
    S, F, C = 12, 2, 4 * D
    generator = torch.Generator().manual_seed(D)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    taps, bias, near = draw(J, C), draw(C), draw(F, S, D)
    recent, due = draw(S, F, B, D), draw(S, F, B, D)
    step = OnlineStep((taps, bias), near[:, :, None], recent, due)
    first = draw(C, D).div(D**0.5).to(dtype), draw(C).to(dtype) if beside else None
    last = draw(D, D).div(D**0.5).to(dtype), draw(D).to(dtype) if beside else None
    for layers in ((first, last), None, (first, last)):  # which may change from step to step
        u, before = draw(B, D).to(dtype), [draw(B, C) for _ in range(J - 1)]
        wide = [(w.double(), 0 if b is None else b.double()) for w, b in (first, last)]
        z = u.double() @ wide[0][0].t() + wide[0][1]
        y, _, after = definition(z, before, taps, bias, near, due, 3, 9)
        if layers is None:
            got, _ = step(z.to(dtype), before, None, 3, 9)
            assert torch.linalg.norm(got - y) <= bound * torch.linalg.norm(y)
            due.copy_(after)
            continue
        got, made = step(u, before, layers, 3, 9)
        y = y @ wide[1][0].t() + wide[1][1]
        assert (got.dtype, made.dtype) == (dtype, torch.float32)
        assert torch.linalg.norm(made - z) <= 1e-6 * torch.linalg.norm(z)
        assert torch.linalg.norm(got - y) <= bound * torch.linalg.norm(y)
        assert torch.linalg.norm(due - after) <= 1e-6 * torch.linalg.norm(after)


def test_projections_of_another_size_are_refused() -> None:
    """The kernel would write and read beyond what is there."""
    D, C = 4, 12
    zeros = torch.zeros
    step = OnlineStep((zeros(1, C), zeros(C)), zeros(1, 8, 1, D), *zeros(2, 8, 1, 2, D))
    fit = (zeros(C, D), None), (zeros(D, D), None)
    step(zeros(2, D), [], fit, 0, 8)
    message = "^HyenaOperator.step: the projections do not fit the operator; expected {}, got {}$"
    with pytest.raises(ValueError, match=message.format(r"\(2, 12\)", r"\(2, 11\)")):
        step(zeros(2, C - 1), [], None, 0, 8)
    wrong = [
        (zeros(2, D), ((zeros(C - 1, D), None), fit[1])),
        (zeros(2, D), (fit[0], (zeros(D + 1, D), None))),
        (zeros(2, D), (fit[0], (zeros(D, D + 1), None))),
        (zeros(1, D), fit),
    ]
    for u, layers in wrong:
        expected = r"\(\(12, 4\), \(4, 4\), \(2, 4\)\)"
        with pytest.raises(ValueError, match=message.format(expected, ".*")):
            step(u, [], layers, 0, 8)
