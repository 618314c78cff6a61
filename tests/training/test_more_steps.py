"""A run that has done all its steps and is given more."""

import pytest
from tiny_runs import MakeConfig, differing

from hyena.training import (
    LengthConfig,
    Record,
    ScheduleConfig,
    TrainConfig,
    read_metrics,
    read_training_state,
    train,
)

DROPOUT = {"dropout": 0.2}


def records(config: TrainConfig) -> list[Record]:
    """What was recorded, without the time that it took."""
    found = read_metrics(config.out / "metrics.jsonl")
    return [{**record, "tokens_per_s": 0} for record in found]


@pytest.mark.parametrize("interrupted", [False, True])
def test_added_steps_are_those_of_a_schedule_that_ended_before(
    make: MakeConfig, interrupted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = make("whole", steps=9, model=DROPOUT, schedule=ScheduleConfig(steps=6))
    whole = train(planned)
    assert train(make("parts", model=DROPOUT)).step == 6
    more = make("parts", steps=9, model=DROPOUT, resume=True)
    capsys.readouterr()
    if interrupted:
        first = train(make("parts", steps=9, model=DROPOUT, resume=True, stop_after=1))
        assert (first.step, first.steps) == (7, 9)
    last = train(more)
    said = "step-00000006; from step 6 on the learning rate is 0.001\n"
    assert said in capsys.readouterr().err
    assert (last.step, differing(whole.checkpoint, last.checkpoint)) == (9, [])
    assert records(planned) == records(more)
    assert [record["lr"] for record in records(more)[6:]] == [pytest.approx(1e-3)] * 3
    config = read_training_state(last.checkpoint).config
    assert (config["steps"], config["schedule"]["steps"]) == (9, 6)


def test_a_schedule_that_was_planned_longer_goes_on(make: MakeConfig) -> None:
    schedule = ScheduleConfig(warmup_steps=2)
    whole = train(make("whole", steps=9, schedule=schedule))
    longer = ScheduleConfig(warmup_steps=2, steps=9)
    train(make("parts", schedule=longer))
    parts = train(make("parts", steps=9, schedule=schedule, resume=True))  # 9 need not be repeated
    assert differing(whole.checkpoint, parts.checkpoint) == []


def test_steps_are_added_more_than_once_and_the_end_stays(make: MakeConfig) -> None:
    whole = train(make("whole", steps=9, schedule=ScheduleConfig(steps=6)))
    for steps in (6, 7, 8, 9):
        last = train(make("parts", steps=steps, resume=True))
    assert differing(whole.checkpoint, last.checkpoint) == []


def test_what_train_yaml_says_after_a_kill_is_taken_too(make: MakeConfig) -> None:
    whole = train(make("whole", steps=9, schedule=ScheduleConfig(steps=6)))
    train(make("parts"))
    # train.yaml is written before the first of the added steps has a checkpoint.
    parts = train(make("parts", steps=9, schedule=ScheduleConfig(steps=6), resume=True))
    assert differing(whole.checkpoint, parts.checkpoint) == []


def test_added_steps_are_at_the_last_length(make: MakeConfig) -> None:
    def lengths(last: int) -> list[LengthConfig]:
        return [LengthConfig(8, 4), LengthConfig(16, last)]

    schedule = ScheduleConfig(steps=6)
    whole = train(make("whole", lengths=lengths(4), steps=8, schedule=schedule))
    train(make("parts", lengths=lengths(2)))
    parts = train(make("parts", lengths=lengths(2), steps=8, resume=True))
    assert differing(whole.checkpoint, parts.checkpoint) == []


def test_a_run_that_is_not_done_gets_no_more_steps(make: MakeConfig) -> None:
    train(make(stop_after=5))
    message = "steps was 6, is 9. Use .* folder; more steps are given when the 6 are done$"
    with pytest.raises(ValueError, match=message):
        train(make(steps=9, resume=True))


def test_with_more_steps_nothing_else_may_change(make: MakeConfig) -> None:
    train(make())
    with pytest.raises(ValueError, match=r"another configuration: batch was 4, is 8\. Use the old"):
        train(make(steps=9, batch=8, resume=True))
    with pytest.raises(ValueError, match=r"configuration: schedule.steps was None, is 8\. Use"):
        train(make(steps=9, schedule=ScheduleConfig(steps=8), resume=True))
    with pytest.raises(ValueError, match=r"configuration: steps was 6, is 5\. Use"):
        train(make(steps=5, resume=True))
    assert train(make(steps=7, resume=True)).step == 7
    with pytest.raises(ValueError, match=r"configuration: steps was 7, is 6\. Use"):
        train(make(resume=True))
