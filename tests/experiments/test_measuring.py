"""What is measured, on models that know how much they know."""

import pytest
import torch
from torch import Tensor, nn

from hyena.experiments.measure import (
    as_text,
    better,
    held_out,
    measure,
    measure_of,
    wilson,
    with_interval,
)
from hyena.tasks import Batch, Task, TaskConfig, build_task, least_squares_errors


class Oracle(nn.Module):
    """Knows the targets of the batches it is asked about, and errs where it is told to."""

    def __init__(self, batches: list[Batch], wrong: Tensor | None = None) -> None:
        super().__init__()
        self.rows = [row for batch in batches for row in batch.targets]
        self.wrong = torch.zeros(len(self.rows), dtype=torch.long) if wrong is None else wrong
        self.asked = 0
        self.was_training: list[bool] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.was_training.append(self.training)
        places = range(self.asked, self.asked + len(inputs))
        self.asked += len(inputs)
        targets = torch.stack([self.rows[i] for i in places])
        if targets.is_floating_point():
            return targets.nan_to_num(7.0) + self.wrong[list(places), None]
        logits = nn.functional.one_hot(targets.clamp(min=0), 12).float()
        for row, i in enumerate(places):  # the last so many positions
            if self.wrong[i]:
                logits[row, -int(self.wrong[i]) :] = 0
                logits[row, -int(self.wrong[i]) :, 11] = 1
        return logits


def batches_of(task: Task, count: int) -> list[Batch]:
    return list(held_out(task, count, split="test", seed=0))


def test_accuracy_counts_answers_and_exact_match_counts_sequences() -> None:
    task = build_task(TaskConfig("addition", digits=2))
    batches = batches_of(task, 20)
    wrong = torch.tensor([0, 1, 2, 3] * 5)  # of three digits each
    model = Oracle(batches, wrong)
    model.train()
    found = measure(model, task, iter(batches), micro_tokens=13)
    assert (found.measure, found.value, found.sequences) == ("exact match", 0.25, 20)
    assert found.interval == wilson(0.25, 20)
    assert (found.details["answers"], found.details["accuracy"]) == (60, 0.5)
    assert found.details["exact_match"] == 0.25
    assert model.training
    assert not any(model.was_training)
    assert with_interval(found) == "25.0% (11.2% to 46.9%)"


def test_a_task_with_one_answer_has_one_figure() -> None:
    task = build_task(TaskConfig(length=8, vocab_size=6))
    batches = batches_of(task, 10)
    wrong = torch.tensor([0] * 9 + [10])
    found = measure(Oracle(batches, wrong), task, iter(batches), micro_tokens=1 << 20)
    assert (found.measure, found.value) == ("accuracy", 0.9)
    assert found.details["exact_match"] == 0.9


def test_squared_errors_stand_beside_least_squares() -> None:
    task = build_task(TaskConfig("linear-functions", dimension=2))
    batches = batches_of(task, 6)
    model = Oracle(batches, torch.tensor([0, 1, 2, 0, 1, 2]))
    found = measure(model, task, iter(batches), micro_tokens=task.length)
    assert (found.measure, found.sequences) == ("squared error", 6)
    assert found.value == pytest.approx(5 / 3)
    low, high = found.interval
    assert found.value - low == pytest.approx(high - found.value)
    assert found.details["examples"] == [0, 1, 2, 3, 4]
    assert found.details["squared_error"] == pytest.approx([5 / 3] * 5)
    (batch,) = batches
    expected = least_squares_errors(batch).mean(dim=0).tolist()
    assert found.details["least_squares"] == pytest.approx(expected)
    assert with_interval(found).startswith("1.667 (")


def test_another_task_of_numbers_has_no_least_squares_beside_it() -> None:
    task = build_task(TaskConfig("linear-functions", dimension=2))
    task.name = "curves"
    batches = batches_of(task, 6)
    found = measure(Oracle(batches), task, iter(batches), micro_tokens=task.length)
    assert found.details == {"examples": [0, 1, 2, 3, 4], "squared_error": [0.0] * 5}


def test_what_the_check_raises_ends_the_measurement() -> None:
    task = build_task(TaskConfig(length=8, vocab_size=6))
    batches = batches_of(task, 10)
    model = Oracle(batches)
    model.train()

    def check() -> None:
        if model.asked:
            raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        measure(model, task, iter(batches), micro_tokens=10, check=check)
    assert model.asked == 1
    assert model.training


def test_held_out_sequences_are_always_the_same_and_of_their_split() -> None:
    task = build_task(TaskConfig(length=16, vocab_size=10))
    test, again = batches_of(task, 30), batches_of(task, 30)
    assert torch.equal(test[0].inputs, again[0].inputs)
    (validation,) = held_out(task, 30, split="train", seed=0)
    (other,) = held_out(task, 30, split="test", seed=1)
    assert not torch.equal(test[0].inputs, other.inputs)
    both = torch.cat([test[0].inputs, validation.inputs])
    assert len(torch.unique(both, dim=0)) == 60


def test_long_sequences_are_drawn_a_few_at_a_time() -> None:
    task = build_task(TaskConfig(length=100_000))
    assert [len(b.inputs) for b in held_out(task, 5, split="test", seed=0)] == [2, 2, 1]


def test_which_figure_is_better() -> None:
    assert better("accuracy", 0.6, 0.5)
    assert not better("accuracy", 0.5, 0.5)
    assert better("squared error", 0.5, 0.6)
    assert measure_of(build_task(TaskConfig("addition"))) == "exact match"
    assert (as_text("accuracy", 0.125), as_text("squared error", 0.125)) == ("12.5%", "0.125")
