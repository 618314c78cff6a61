"""How fast a machine trains is measured by the training itself. No test asserts a time."""

from pathlib import Path

import pytest
import torch
from tiny_runs import tiny_config

from hyena.training import TrainConfig, speed
from hyena.training.speed import Speed, measure_speed


def config(**changes: object) -> TrainConfig:
    """Of data that is not there, and is not needed."""
    return tiny_config(Path("no/such/data"), Path("no/such/run"), **changes)


def test_the_rows_of_a_micro_batch_of_one_device_are_measured() -> None:
    found = measure_speed(config(batch=12, accumulate=2, devices=3), seconds=1e9)
    assert found.seconds > 0
    assert found == Speed("cpu", rows=2, length=16, seconds=found.seconds)
    assert not Path("no").exists()


def test_fewer_rows_are_measured_where_all_would_take_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[tuple[int, int]] = []

    class Course(speed._Course):
        def __init__(self, config: TrainConfig, rows: int, steps: int, device: object) -> None:
            super().__init__(config, rows, steps, torch.device("cpu"))
            measured.append((rows, steps))
            self.seconds = [float(rows)] * (steps + 1)

    monkeypatch.setattr(speed, "_Course", Course)
    for seconds, rows in ((1e9, 4), (13, 3), (4, 1)):
        assert measure_speed(config(), seconds=seconds) == Speed("cpu", rows, 16, float(rows))
        assert measured[-2:] == [(1, 1), (rows, speed.STEPS)]
    assert measure_speed(config(), seconds=3.9).rows == 1
    assert measured[-2:] == [(1, speed.STEPS), (1, 1)]


@pytest.mark.parametrize("precision", ["32", "64", "bf16-mixed"])
def test_any_precision_is_measured(precision: str) -> None:
    asked = config(precision=precision, activation_checkpointing=True, model={"dropout": 0.1})
    assert measure_speed(asked, seconds=0).rows == 1


def test_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    measure_speed(config(), seconds=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_configuration_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="batch is 5, but has to be cut into"):
        measure_speed(config(batch=5, devices=2))
