"""What a run is reckoned to take: by hand, and against the run itself."""

import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import MakeConfig

from hyena.data import open_tokens
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.memory import step_bytes
from hyena.training import EvaluationConfig, ParameterRule, TrainConfig, read_metrics, train
from hyena.training.hardware import Hardware
from hyena.training.lengths import LengthConfig
from hyena.training.plan import RunPlan, Work, plan_run, time_at, time_on
from hyena.training.speed import Speed
from hyena.training.strategies import Cluster, ways

HYBRID = ModelConfig(
    vocab_size=10,
    width=4,
    layers=2,
    mlp_width=6,
    mixers="hyena,attention",
    head_dim=2,
    max_length=8,
    filter=FilterConfig(emb_dim=3, width=5, depth=4),
)
# Of a row of 8 tokens, counted by hand in tests/model/test_flops.py: the Hyena block takes 3928, of
# which 1792 in products of matrices, and its filter 2304; the attention block 3392, of which 2816
# in products and 616 in the future; the head 640. By the paper's formula the model takes 6720.
HYENA, FILTER, ATTENTION, FUTURE, HEAD = 3928, 2304, 3392, 616, 640
FORWARD = 2 * (HYENA + ATTENTION + HEAD) + FILTER  # of two rows
PRODUCTS = 2 * (1792 + 2816 + HEAD)
PURE = ModelConfig(vocab_size=16, width=8, layers=2, max_length=64)


def config(model: ModelConfig = HYBRID, **changes: Any) -> TrainConfig:
    """Ten steps of four rows, two at a time; evaluated twice, on three micro batches each time."""
    options: dict[str, Any] = {
        "steps": 10,
        "batch": 4,
        "accumulate": 2,
        "evaluation": EvaluationConfig(every=5, batches=3),
        **changes,
    }
    return TrainConfig(data=Path("no/such/data"), out=Path("out"), model=model, **options)


def test_the_operations_of_a_run_by_hand() -> None:
    plan = plan_run(config())
    assert (plan.rows, plan.length, plan.accumulate, plan.layout.processes) == (2, 8, 2, 1)
    assert (plan.tokens, plan.evaluations, plan.text) == (320, 6, None)
    assert plan.forward == Work(PRODUCTS, FORWARD - PRODUCTS)
    assert plan.training == Work(3 * PRODUCTS, 3 * (FORWARD - PRODUCTS))
    counted = plan.operations
    assert counted.paper == 20 * 3 * 2 * 6720
    assert counted.paper_causal == 20 * 3 * 2 * (6720 - FUTURE)
    assert counted.executed == 20 * 3 * FORWARD == 1_093_440
    assert counted.executed_causal == 20 * 3 * (FORWARD - 2 * FUTURE)
    assert counted.evaluation == 6 * FORWARD


def test_blocks_that_are_recomputed_run_once_more_and_the_head_does_not() -> None:
    plan = plan_run(config(activation_checkpointing=True))
    assert plan.operations.executed == 20 * (4 * FORWARD - 2 * HEAD) == 1_432_320
    assert plan.operations.executed_causal == 20 * (4 * (FORWARD - 2 * FUTURE) - 2 * HEAD)
    assert plan.training.total == 4 * FORWARD - 2 * HEAD
    assert plan.operations.paper == plan_run(config()).operations.paper


def test_several_devices_share_a_batch_and_each_makes_its_filters() -> None:
    one, two = plan_run(config()), plan_run(config(devices=2))
    assert (two.rows, two.layout.processes, two.tokens) == (1, 2, one.tokens)
    assert two.operations.paper == one.operations.paper
    more = 20 * 3 * FILTER
    assert two.operations.executed == one.operations.executed + more
    assert plan_run(config(num_nodes=2)) == two


def test_the_hidden_layers_of_a_filter_are_made_on_each_process_that_shares_rows() -> None:
    one, two = plan_run(config()), plan_run(config(devices=2, context=2))
    # Of 8 positions: layers of 3 to 5, 5 to 5 and 5 to 5 numbers, 3 of the encoding, 15 sines.
    hidden = 8 * (2 * (3 * 5 + 5 * 5 + 5 * 5) + 3 + 15)
    assert two.forward == Work(PRODUCTS / 2, hidden + (FORWARD - PRODUCTS - hidden) / 2)
    assert two.training.other == 3 * two.forward.other
    assert two.operations == one.operations
    again = plan_run(config(devices=2, context=2, activation_checkpointing=True))
    assert again.training.other == 4 * two.forward.other


def test_a_way_that_is_another_is_left_out() -> None:
    def names(gpus: int) -> list[str]:
        return list(ways(Cluster(hardware(), gpus, per_machine=4, network=1.0)))

    assert names(1) == ["data"]
    assert names(4) == ["data", "fsdp", "context"]
    assert names(8) == ["data", "fsdp", "hybrid", "context"]


def test_a_url_where_nothing_is_yet_has_no_epochs(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    here = dataclasses.replace(config(), data=Path("memory://no/such/data"))
    assert plan_run(here).text is None
    with pytest.raises(FileNotFoundError, match=r"asked for in .*, but it has no manifest"):
        plan_run(dataclasses.replace(here, data=tmp_path))


@pytest.mark.parametrize(
    ("every", "expected"), [(0, 0), (1, 30), (3, 12), (5, 6), (10, 3), (20, 3)]
)
def test_a_run_is_evaluated_every_so_many_steps_and_after_the_last(
    every: int, expected: int
) -> None:
    plan = plan_run(config(evaluation=EvaluationConfig(every=every, batches=3)))
    assert plan.evaluations == expected


def test_the_time_from_what_was_measured_by_hand() -> None:
    # Two seconds a row, four a micro batch, of which a forward pass is a third.
    time = time_at(plan_run(config()), Speed("cpu", rows=1, length=8, seconds=2.0))
    assert (time.step, time.training, time.tokens_per_second) == (8, 80, 4)
    assert time.evaluation == pytest.approx(6 * 4 / 3)
    assert time.total == pytest.approx(88)


def hardware(**changes: Any) -> Hardware:
    """Its memory takes an update of the hybrid in a second."""
    bandwidth = 28 * LanguageModel(HYBRID, device="meta").parameter_count()
    return dataclasses.replace(Hardware("x", 1000, 100, 1e9, bandwidth, 1e9, "nowhere"), **changes)


def test_the_time_on_an_accelerator_by_hand() -> None:
    plan = plan_run(config(precision="bf16-mixed"))
    time = time_on(plan, hardware(), 0.5)
    forward = (PRODUCTS / 1000 + (FORWARD - PRODUCTS) / 100) / 0.5
    assert forward == pytest.approx(175.552)
    assert time.step == pytest.approx(2 * 3 * forward + 1)
    assert time.training == pytest.approx(10 * time.step)
    assert time.evaluation == pytest.approx(6 * forward)
    assert time.total == pytest.approx(11_596.432)
    assert time.tokens_per_second == pytest.approx(320 / time.training)


def test_float32_runs_at_its_own_peak() -> None:
    time = time_on(plan_run(config()), hardware(), 1)
    assert time.step == pytest.approx(2 * 3 * FORWARD / 100 + 1)


def test_without_a_float32_peak_all_runs_at_that_of_bfloat16() -> None:
    time = time_on(plan_run(config(precision="bf16-mixed")), hardware(fp32=None), 1)
    assert time.step == pytest.approx(2 * 3 * FORWARD / 1000 + 1)


@pytest.mark.parametrize(("precision", "fp32"), [("64", 100), ("32", None)])
def test_a_precision_without_a_peak_is_refused(precision: str, fp32: float | None) -> None:
    message = f"hardware x has no known peak of float{precision}, .* try precision bf16-mixed"
    with pytest.raises(ValueError, match=message):
        time_on(plan_run(config(precision=precision)), hardware(fp32=fp32))


@pytest.mark.parametrize("utilisation", [0, -1, 1.5, float("nan")])
def test_a_utilisation_that_is_no_share_is_refused(utilisation: float) -> None:
    message = re.escape(f"utilisation: expected a share, above 0 up to 1, got {utilisation}")
    with pytest.raises(ValueError, match=message):
        time_on(plan_run(config()), hardware(), utilisation)


def takes(plan: RunPlan) -> list[float]:
    """Everything that grows with a run."""
    counted = dataclasses.astuple(plan.operations)
    time = time_on(plan, hardware())
    assert plan.memory.checkpointed is not None
    return [*counted, plan.memory.checkpointed, plan.tokens, time.step, time.total]


@pytest.mark.parametrize("steps", [4, 8])
def test_all_grows_with_length_and_batch(steps: int) -> None:
    def plan(**changes: Any) -> RunPlan:
        return plan_run(config(PURE, steps=steps, **changes))

    for plans in (
        [plan(length=length) for length in (1, 2, 7, 16, 33, 64)],
        [plan(length=64, batch=batch) for batch in (2, 4, 8, 24)],
    ):
        for less, more in itertools.pairwise(plans):
            assert all(a < b for a, b in zip(takes(less), takes(more), strict=True))


def test_the_memory_of_a_step() -> None:
    model = LanguageModel(PURE, device="meta")
    weights = 4 * model.parameter_count()
    plan = plan_run(config(PURE, activation_checkpointing=True))
    assert plan.parameters == model.parameter_count()
    assert plan.memory.state == 4 * weights
    assert plan.memory.checkpointed == step_bytes(model, 64, 2)
    assert plan.memory.not_covered == ()
    two = plan_run(config(PURE, activation_checkpointing=True, devices=2)).memory
    assert (two.state, two.checkpointed) == (5 * weights, step_bytes(model, 64, 1) + weights)
    double = plan_run(config(PURE, precision="64")).memory
    assert double.state == 8 * weights


@pytest.mark.parametrize(
    ("changes", "gap"),
    [
        ({}, "what blocks keep for the backward pass without activation_checkpointing"),
        ({"precision": "64"}, "transforms in float64"),
        ({"precision": "bf16-mixed"}, "autocast"),
        ({"model": HYBRID}, "these are hyena with hyena filters, attention"),
        (
            {"model": dataclasses.replace(PURE, block_causal=True)},
            "these are hyena with hyena filters, block-causal",
        ),
    ],
)
def test_what_the_memory_leaves_out_is_said(changes: dict[str, Any], gap: str) -> None:
    memory = plan_run(config(**{"model": PURE, **changes})).memory
    assert any(gap in phrase for phrase in memory.not_covered)
    assert (memory.checkpointed is None) == ("these are" in gap)


def test_the_epochs_of_the_text(make: MakeConfig) -> None:
    asked = make(steps=50)
    plan = plan_run(asked)
    tokens = len(open_tokens(asked.data, "train"))
    assert plan.text is not None
    assert plan.text.tokens == tokens
    assert plan.text.epochs == 50 * 4 / ((tokens - 1) // 16 - 1)


def test_the_tokens_are_those_that_a_run_trains_on(make: MakeConfig) -> None:
    asked = make()
    train(asked)
    assert read_metrics(asked.out / "metrics.jsonl")[-1]["tokens"] == plan_run(asked).tokens


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 5}, "batch is 5, but has to be cut into"),
        ({"model": {"vocab_size": 100}}, "the model has vocab_size=100"),
        ({"length": 10**6, "model": {"max_length": 10**6}}, "use a shorter length or more text"),
    ],
)
def test_a_run_that_cannot_be_is_refused(
    changes: dict[str, Any], message: str, make: MakeConfig
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_run(make(accumulate=2, **changes))


def test_a_rule_without_effect_is_refused() -> None:
    asked = config()
    asked.optimizer.rules = [ParameterRule(pattern="nowhere", lr=1.0)]
    with pytest.raises(ValueError, match="matched no parameters"):
        plan_run(asked)


def test_what_is_frozen_has_no_gradient_and_no_moments(tmp_path: Path) -> None:
    config = TrainConfig(data=tmp_path / "none", out=tmp_path / "out", model=HYBRID, batch=4)
    whole = plan_run(config)
    frozen = plan_run(dataclasses.replace(config, freeze="embedding.*"))
    table = LanguageModel(HYBRID, device="meta").embedding.weight.numel()
    assert whole.memory.state - frozen.memory.state == 3 * 4 * table
    assert frozen.parameters == whole.parameters


def test_a_plan_of_several_lengths_is_refused(tmp_path: Path) -> None:
    parts = [LengthConfig(4, 3), LengthConfig(8, 2)]
    config = TrainConfig(
        data=tmp_path / "none", out=tmp_path, model=HYBRID, batch=4, steps=5, lengths=parts
    )
    with pytest.raises(ValueError, match="lengths: a plan is of one length"):
        plan_run(config)
