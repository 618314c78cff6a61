"""The loop on a course of its own: what a newcomer trains by it."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from hyena.training import OptimizerConfig, adamw
from hyena.training.loop import NotFiniteError, OneProcess, Step, Update, seed_of, train_steps
from hyena.training.processes import StopRequest


@dataclass
class Line:
    """Fits y = 3x in some steps, of two parts each."""

    steps: int
    updates: list[Update] = field(default_factory=list)
    draws: list[Tensor] = field(default_factory=list)

    def is_over(self) -> bool:
        return len(self.updates) == self.steps

    def step(self) -> Step[Tensor]:
        number = len(self.updates)
        draw = torch.Generator().manual_seed(seed_of(0, number))
        parts = torch.rand(2, 8, 1, generator=draw)
        return Step(list(parts), self.loss, factor=1 / (1 + number), seed=seed_of(1, number))

    def loss(self, model: nn.Module, x: Tensor) -> Tensor:
        self.draws.append(torch.rand(1))  # as dropout does
        return (model(x) - 3 * x).square().mean() / 2

    def updated(self, update: Update) -> None:
        self.updates.append(update)


def fit(course: Line, request: StopRequest | None = None) -> nn.Module:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    train_steps(
        course,
        model,
        adamw(model, OptimizerConfig(lr=0.5)),
        clip=None,
        request=request or StopRequest(),
        fabric=OneProcess(),
    )
    return model


def test_a_course_of_its_own_is_trained_until_it_is_over() -> None:
    course = Line(30)
    model = fit(course)
    losses = [update.loss for update in course.updates]
    assert len(losses) == 30
    assert losses[-1] < 0.3 * losses[0]
    assert all(update.norm > 0 and update.seconds > 0 for update in course.updates)
    again = Line(30)
    assert torch.equal(model.weight, fit(again).weight)
    assert course.draws == again.draws
    assert len(set(map(float, course.draws))) == 60  # each step seeds it anew


@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
def test_an_update_is_as_large_as_its_factor_says(factor: float) -> None:
    class Scaled(Line):
        def step(self) -> Step[Tensor]:
            return replace(super().step(), factor=factor)

    weight = fit(Scaled(1)).weight.item()
    assert weight == pytest.approx(0.5 * factor, rel=1e-5)  # Adam's first is the learning rate


def test_a_signal_is_passed_on() -> None:
    request, course = StopRequest(), Line(2)
    request.signal = 15
    fit(course, request)
    assert [update.signal for update in course.updates] == [15, 15]


def test_nothing_is_updated_by_what_is_not_finite() -> None:
    course = Line(5)
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, torch.inf)
    with pytest.raises(NotFiniteError, match=r"^loss is inf$"):
        train_steps(
            course,
            model,
            adamw(model, OptimizerConfig()),
            clip=1.0,
            request=StopRequest(),
            fabric=OneProcess(),
        )
    assert course.updates == []
    assert model.weight == torch.inf
