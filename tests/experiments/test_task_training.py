"""The fields of a training, its batches and its learning rate."""

import math
import re
from typing import Any

import pytest

from hyena.experiments import TaskTraining
from hyena.experiments.cell import Stage
from hyena.training import OptimizerConfig


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -1}, "training.steps: expected at least 0, got -1"),
        ({"batch": 0}, "training.batch: expected at least 1, got 0"),
        ({"test_sequences": 1}, "training.test_sequences: expected at least 2, got 1"),
        ({"minutes": 0.0}, "training.minutes: expected a positive number, got 0.0"),
        ({"clip": math.nan}, "training.clip: expected a positive number, got nan"),
        (
            {"schedule": "step"},
            "training.schedule: expected one of cosine, constant, linear, got 'step'",
        ),
        ({"final_lr": 2.0}, "training.final_lr: expected a share, from 0 to 1, got 2.0"),
        ({"stop_at": 0.0}, "training.stop_at: expected a share, above 0 up to 1, got 0.0"),
        ({"steps": None}, "of training.steps and training.epochs neither is given; give"),
        ({"epochs": 3}, "of training.steps and training.epochs both are given; give"),
        ({"epochs": 3, "steps": None}, "training.epochs is 3, but there are no training.samples"),
        ({"stages": [Stage(4, 1)], "samples": 9}, "training.stages are of fresh sequences"),
        ({"few_keys": "last"}, "training.few_keys: expected one of random, first, got 'last'"),
        ({"few_keys": "first"}, "training.few_keys is first, but no stage has few keys"),
        ({"few_keys": "first", "stages": [Stage(4, 1)]}, "few_keys is first, but no stage has few"),
        ({"steps": 0}, "training.steps is 0 and there are no training.stages"),
        (
            {"optimizer": OptimizerConfig(lr=0.0)},
            "training.optimizer.lr: expected a positive number, got 0.0",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskTraining(**changes)


def test_a_step_has_about_its_tokens() -> None:
    training = TaskTraining(tokens_per_step=16384)
    # Recall's two more tokens at a length cost no sequence.
    assert [training.sequences(n) for n in (1024, 1026, 8194, 16386, 131074)] == [16, 16, 2, 1, 1]
    assert TaskTraining(batch=32).sequences(131074) == 32


def test_the_paper_s_epochs_are_steps() -> None:
    training = TaskTraining(steps=None, samples=2000, epochs=200, batch=32)
    assert training.own_steps(2050) == 200 * 63
    assert TaskTraining(steps=7).own_steps(2050) == 7


@pytest.mark.parametrize("schedule", ["cosine", "constant", "linear"])
def test_the_learning_rate_rises_and_then_follows_its_schedule(schedule: Any) -> None:
    training = TaskTraining(schedule=schedule, warmup_steps=4, final_lr=0.25)
    factors = [training.factor(step, step, 24) for step in range(25)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    middle, end = {"cosine": (0.625, 0.25), "constant": (1, 1), "linear": (0.625, 0.25)}[schedule]
    assert (factors[14], factors[24]) == pytest.approx((middle, end))
    assert factors[5:] == sorted(factors[5:], reverse=True)


def test_the_schedule_is_of_the_task_s_own_length() -> None:
    training = TaskTraining(warmup_steps=4)
    assert [training.factor(step, None, 10) for step in (3, 4, 99)] == [0.8, 1, 1]
    factors = [training.factor(step, step - 100, 10) for step in (100, 105, 110)]
    assert factors == pytest.approx([1, 0.5, 0])


def test_a_warm_up_longer_than_the_training_never_peaks() -> None:
    training = TaskTraining(warmup_steps=50)
    assert max(training.factor(step, step, 4) for step in range(4)) < 1


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ((0, 1), "training.stages.length: expected at least 1, got 0"),
        ((4, 0), "training.stages.steps: expected at least 1, got 0"),
        ((4, 1, 0.5, 1), "training.stages.keys: expected at least 2, got 1"),
        ((4, 1, 1.5), "training.stages.until: expected a share, above 0 up to 1, got 1.5"),
        (
            (4, 1, None, 2, 0.0),
            "training.stages.more_keys_at: expected a share, above 0 up to 1, got 0.0",
        ),
        ((4, 1, None, None, 0.9), "more_keys_at is 0.9, but there are no keys to begin with"),
    ],
)
def test_a_stage_that_cannot_be(stage: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Stage(*stage)
