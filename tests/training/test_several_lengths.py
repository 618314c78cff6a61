"""A run that goes through several lengths of windows."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import MakeConfig, differing, run_script
from torch import Tensor

from hyena.data import open_tokens
from hyena.model import LanguageModel
from hyena.training import (
    EvaluationConfig,
    LengthConfig,
    TrainConfig,
    read_metrics,
    read_training_state,
    run,
    train,
)

LENGTHS = [LengthConfig(16, 4), LengthConfig(32, 2)]


def in_stages(make: MakeConfig, out: str = "run", **changes: Any) -> TrainConfig:
    """Four steps of 4 windows of 16, and two of 2 windows of 32."""
    model = {"max_length": 32, **changes.pop("model", {})}
    return make(out, **{"lengths": LENGTHS, "model": model, **changes})


def test_each_step_has_as_many_tokens_and_the_metrics_name_the_length(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    forward = LanguageModel.forward

    def spy(self: LanguageModel, ids: Tensor, **arguments: Any) -> Tensor:
        seen.append(tuple(ids.shape))
        return forward(self, ids, **arguments)

    monkeypatch.setattr(LanguageModel, "forward", spy)
    config = in_stages(make, evaluation=EvaluationConfig(every=0))
    result = train(config)
    assert seen == [(4, 16)] * 4 + [(2, 32)] * 2
    records = read_metrics(config.out / "metrics.jsonl")
    assert [record["length"] for record in records] == [16] * 4 + [32] * 2
    assert [record["tokens"] for record in records] == [64 * step for step in range(1, 7)]
    state = read_training_state(result.checkpoint)
    assert state.tokens == 6 * 64
    assert state.config["lengths"][1] == {"length": 32, "steps": 2}


@pytest.mark.parametrize("stop_after", [2, 4, 5])
def test_it_resumes_bit_for_bit_at_each_length(make: MakeConfig, stop_after: int) -> None:
    dropout = {"dropout": 0.3}
    whole = train(in_stages(make, "whole", model=dropout))
    train(in_stages(make, "parts", model=dropout, stop_after=stop_after))
    parts = train(in_stages(make, "parts", model=dropout, resume=True))
    assert differing(whole.checkpoint, parts.checkpoint) == []
    assert read_training_state(whole.checkpoint).best == read_training_state(parts.checkpoint).best


def test_a_single_length_is_that_length(make: MakeConfig) -> None:
    one = train(in_stages(make, "one", lengths=[LengthConfig(16, 6)]))
    plain = train(in_stages(make, "plain", lengths=[], length=16))
    assert differing(one.checkpoint, plain.checkpoint) == []


def test_the_windows_of_a_step_are_those_of_a_run_of_its_length(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    original = run.window_loss

    def spy(model: Any, windows: Any, device: torch.device) -> Tensor:
        seen.append(windows.inputs)
        return original(model, windows, device)

    monkeypatch.setattr(run, "window_loss", spy)
    never = EvaluationConfig(every=0)
    train(in_stages(make, "stages", evaluation=never))
    stages, seen[:] = list(seen), []
    train(in_stages(make, "long", lengths=[], batch=2, evaluation=never))
    assert all(torch.equal(a, b) for a, b in zip(stages[4:], seen[4:], strict=True))


def test_evaluation_is_at_the_length_of_the_step_and_the_best_is_of_the_newest(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([1.0, 5.0])
    shapes: list[tuple[int, ...]] = []

    def mean_loss(model: object, batches: Any, device: torch.device) -> float:
        shapes.extend({tuple(batch.inputs.shape) for batch in batches})
        return next(losses)

    monkeypatch.setattr(run, "mean_loss", mean_loss)
    result = train(in_stages(make, accumulate=2))
    assert shapes == [(2, 16), (1, 32)]
    best = read_training_state(result.checkpoint).best
    assert best is not None
    assert (best.step, best.validation_loss) == (6, 5.0)


def test_lengths_beyond_the_model_need_a_length_policy(make: MakeConfig) -> None:
    message = "length is 32, but model.max_length is 16; lower length, raise model.max_length, or"
    with pytest.raises(ValueError, match=message):
        train(in_stages(make, model={"max_length": 16}))
    model = {"max_length": 16, "length_policy": "extrapolate"}
    assert train(in_stages(make, model=model)).step == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 7}, "lengths has 6 steps, but steps is 7; make them equal"),
        ({"steps": 7, "resume": True}, "lengths has 6 steps, but steps is 7; make them equal"),
        ({"steps": 5, "resume": True}, "lengths has 6 steps, but steps is 5; make them equal"),
        ({"length": 16}, "length is 16, but lengths says how long the windows are; leave one of"),
        (
            {"lengths": [LengthConfig(16, 4), LengthConfig(24, 2)]},
            "lengths: expected one that divides the tokens of a step, 4 · 16, got 24; choose",
        ),
        ({"accumulate": 4}, "batch is 2 windows of 32, but has to be cut into .* = 4 equal parts"),
        (
            {"lengths": [LengthConfig(16, 4), LengthConfig(0, 2)]},
            r"lengths\[1\]\.length: expected at least 1, got 0",
        ),
        (
            {"lengths": [LengthConfig(16, 6), LengthConfig(32, 0)]},
            r"lengths\[1\]\.steps: expected at least 1, got 0",
        ),
    ],
)
def test_lengths_that_cannot_work_are_refused(
    make: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    config = in_stages(make, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


def test_a_text_shorter_than_the_longest_window_is_refused(make: MakeConfig, data: Path) -> None:
    longest = 16 * (len(open_tokens(data, "train")) // 16 + 1)
    lengths = [LengthConfig(16, 4), LengthConfig(longest, 2)]
    config = in_stages(make, lengths=lengths, batch=longest // 16, model={"max_length": longest})
    with pytest.raises(ValueError, match=f"too few for windows of {longest:,}; lower length"):
        train(config)


def test_other_lengths_are_refused_when_it_resumes(make: MakeConfig) -> None:
    train(in_stages(make, stop_after=1))
    with pytest.raises(ValueError, match=r"lengths was \[\{'length': 16, 'steps': 4\}, .*, is \["):
        train(in_stages(make, lengths=[LengthConfig(16, 3), LengthConfig(32, 3)], resume=True))


TWO_PROCESSES = """
import os, sys
from pathlib import Path

from hyena.training import LengthConfig, train
from tiny_runs import tiny_config

data, base, out = map(Path, sys.argv[1:])
lengths = [LengthConfig(8, 2), LengthConfig(16, 2)]
begin = {"init": base, "freeze": ["blocks.0.*"], "lengths": lengths, "devices": 2}
for steps in (4, 6):
    train(tiny_config(data, out, steps=steps, resume=True, **begin))
sys.stdout.flush()
os._exit(0)
"""


def test_two_processes_equal_one(make: MakeConfig, data: Path, tmp_path: Path) -> None:
    base = train(make("base", steps=1)).checkpoint
    lengths = [LengthConfig(8, 2), LengthConfig(16, 2)]
    begin = {"init": base, "freeze": ["blocks.0.*"], "lengths": lengths}
    for steps in (4, 6):
        train(make("one", steps=steps, resume=True, **begin))
    run_script(TWO_PROCESSES, data, base, tmp_path / "two", folder=tmp_path)
    one, two = (read_metrics(tmp_path / out / "metrics.jsonl") for out in ("one", "two"))
    assert [record["length"] for record in two] == [8, 8, 16, 16, 16, 16]
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys()
        assert (left["lr"], left["tokens"]) == (right["lr"], right["tokens"])
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-5)
