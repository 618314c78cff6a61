"""What holds for every task."""

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
import torch
from task_solvers import SOLVERS, check_answers

from hyena.tasks import IGNORE, TASKS, Batch, Task, TaskConfig, build_task, exact_match
from hyena.tasks.splits import in_test
from hyena.tasks.task import CLASSES, READS

SIZES: list[dict[str, Any]] = [
    *(
        {"name": name, "length": length, "vocab_size": vocabulary}
        for name in ("recall", "recall-plain")
        for length, vocabulary in ((6, 8), (30, 11), (64, 30), (66, 10), (256, 40))
    ),
    *(
        {"name": name, "length": 100, "vocab_size": 30, **few}
        for name in ("recall", "recall-plain")
        for few in ({"most_keys": 3}, {"alphabet": 4}, {"alphabet": 9, "most_keys": 5})
    ),
    {"name": "multi-query-recall", "length": 13, "vocab_size": 12, "pairs": 1},
    {"name": "multi-query-recall", "length": 16, "vocab_size": 12, "pairs": 4},
    {"name": "multi-query-recall", "length": 64, "vocab_size": 9},
    {"name": "multi-query-recall", "length": 256, "vocab_size": 300},
    {"name": "induction", "length": 4, "vocab_size": 10},
    {"name": "induction", "length": 12, "vocab_size": 5, "triggers": 3, "copy_length": 3},
    {"name": "induction", "length": 20, "vocab_size": 5, "triggers": 3, "copy_length": 3},
    {"name": "induction", "length": 65, "vocab_size": 30, "copy_length": 5},
    {"name": "induction", "length": 300, "vocab_size": 10, "triggers": 2, "copy_length": 80},
    {"name": "majority", "length": 5, "vocab_size": 9},
    {"name": "majority", "length": 8, "vocab_size": 4},
    {"name": "majority", "length": 131, "vocab_size": 2},
    {"name": "majority", "length": 256, "vocab_size": 40},
    {"name": "counting", "length": 5, "vocab_size": 30},
    {"name": "counting", "length": 8, "vocab_size": 5},
    {"name": "counting", "length": 66, "vocab_size": 200},
    {"name": "counting", "length": 256, "vocab_size": 10},
    {"name": "linear-functions", "dimension": 1, "pairs": 1},
    {"name": "linear-functions", "dimension": 3},
    {"name": "addition", "digits": 1},
    {"name": "addition", "digits": 2},
    {"name": "addition", "digits": 30},
]


def label(sizes: dict[str, Any]) -> str:
    return " ".join(str(value) for value in sizes.values())


every_size = pytest.mark.parametrize("sizes", SIZES, ids=label)
every_task = pytest.mark.parametrize("name", TASKS)


def sample(task: Task, count: int, split: Any, seed: int = 0) -> Batch:
    return task.sample(count, torch.Generator().manual_seed(seed), split)


def test_every_task_is_tested() -> None:
    assert {sizes["name"] for sizes in SIZES} == set(SOLVERS) == set(TASKS)


@every_task
def test_a_task_reads_what_its_class_takes_and_has_its_defaults(name: str) -> None:
    parameters = inspect.signature(CLASSES[name]).parameters
    assert tuple(parameters) == READS[name]
    assert set(READS[name]) <= {field.name for field in dataclasses.fields(TaskConfig)}
    config = dataclasses.asdict(TaskConfig(name=name))
    assert {field: p.default for field, p in parameters.items()} == {
        field: config[field] for field in READS[name]
    }
    assert build_task(TaskConfig(name=name)).name == name


@every_size
@pytest.mark.parametrize("split", ["train", "test"])
def test_shapes_types_and_where_there_are_answers(sizes: dict[str, Any], split: str) -> None:
    task = build_task(TaskConfig(**sizes))
    inputs, targets, answers = sample(task, 7, split)
    real = task.name == "linear-functions"
    assert (task.vocab_size == 0, task.features > 0) == (real, real)
    features = (task.features,) if real else ()
    assert inputs.shape == (7, task.length, *features)
    assert targets.shape == answers.shape == (7, task.length)
    assert inputs.dtype == targets.dtype == (torch.float32 if real else torch.int64)
    assert answers.dtype == torch.bool
    assert inputs.is_contiguous()
    assert targets.is_contiguous()
    assert bool(answers.any(dim=1).all())
    if real:
        assert bool(inputs.isfinite().all())
        assert torch.equal(~targets.isnan(), answers)
        return
    assert 0 <= int(inputs.min()) <= int(inputs.max()) < task.vocab_size
    scored = targets != IGNORE
    assert 0 <= int(targets[scored].min()) <= int(targets[scored].max()) < task.vocab_size
    assert bool(scored[answers].all())


@pytest.mark.parametrize("sizes", [s for s in SIZES if s["name"] != "linear-functions"], ids=label)
def test_the_solver_finds_the_questions_and_the_answers(sizes: dict[str, Any]) -> None:
    config = TaskConfig(**sizes)
    task = build_task(config)
    check_answers(sample(task, 200, "train", 1), config)
    check_answers(sample(task, 100, "test", 2), config)


@every_size
def test_a_seed_gives_the_same_batch_and_another_one_another(sizes: dict[str, Any]) -> None:
    task = build_task(TaskConfig(**sizes))
    torch.manual_seed(1)
    one = sample(task, 20, "train", 5)
    state = torch.random.get_rng_state()
    two = sample(build_task(TaskConfig(**sizes)), 20, "train", 5)
    assert torch.equal(state, torch.random.get_rng_state())
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(one.inputs, sample(task, 20, "train", 6).inputs)


@every_task
def test_a_generator_goes_on(name: str) -> None:
    task, generator = build_task(TaskConfig(name=name)), torch.Generator().manual_seed(0)
    one, two = (task.sample(9, generator, "test") for _ in range(2))
    assert not torch.equal(one.inputs, two.inputs)


@pytest.mark.parametrize(
    "sizes",
    [
        {"name": "recall", "length": 4, "vocab_size": 8},
        {"name": "recall-plain", "length": 6, "vocab_size": 5},
        {"name": "multi-query-recall", "length": 8, "vocab_size": 8, "pairs": 2},
        {"name": "induction", "length": 4, "vocab_size": 5},
        {"name": "induction", "length": 6, "vocab_size": 4, "triggers": 2, "copy_length": 2},
        {"name": "majority", "length": 8, "vocab_size": 3},
        {"name": "counting", "length": 6, "vocab_size": 6},
        {"name": "addition", "digits": 1},
        {"name": "addition", "digits": 2},
    ],
    ids=label,
)
def test_no_prompt_is_in_both_splits(sizes: dict[str, Any]) -> None:
    task = build_task(TaskConfig(**sizes))
    seen = []
    for split in ("train", "test"):
        inputs = torch.cat([sample(task, 4000, split, seed).inputs for seed in (0, 1)])
        seen.append({tuple(row) for row in inputs.tolist()})
    # So few prompts that most would be in both if nothing kept them apart.
    assert min(len(prompts) for prompts in seen) < 4000
    assert seen[0].isdisjoint(seen[1])


@every_task
def test_both_splits_have_prompts_of_every_kind(name: str) -> None:
    """Of the usual size no two of a thousand prompts begin alike, neither to train nor to test."""
    task = build_task(TaskConfig(name=name))
    for split in ("train", "test"):
        beginnings = sample(task, 1000, split).inputs[:, :64].flatten(1).tolist()
        assert len({tuple(beginning) for beginning in beginnings}) == 1000


@every_task
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_any_number_of_prompts(name: str, count: int) -> None:
    task = build_task(TaskConfig(name=name))
    assert all(len(part) == count for part in sample(task, count, "test"))


@every_task
def test_a_bad_count_or_split_is_refused(name: str) -> None:
    task = build_task(TaskConfig(name=name))
    with pytest.raises(ValueError, match=rf"^{name}: count: expected at least 1, got 0$"):
        sample(task, 0, "train")
    message = rf"^{name}: split: expected train or test, got 'validation'$"
    with pytest.raises(ValueError, match=message):
        sample(task, 1, "validation")


def test_a_task_of_one_prompt_cannot_be_split() -> None:
    task = build_task(TaskConfig(name="recall-plain", length=2, vocab_size=2))
    held_out = bool(in_test(torch.tensor([[0, 1]])))
    assert len(sample(task, 5, "test" if held_out else "train").inputs) == 5
    with pytest.raises(ValueError, match=r"^recall-plain: there are too few different prompts"):
        sample(task, 5, "train" if held_out else "test")


@every_task
@pytest.mark.parametrize("long", [False, True])
def test_a_shown_prompt_is_one_line_with_its_answer(name: str, long: bool) -> None:
    sizes: dict[str, Any] = {}
    if "length" in READS[name]:
        sizes["length"] = 4096 if long else 12
    task = build_task(TaskConfig(name=name, **sizes))
    line = task.show(sample(task, 3, "train"), 2)
    assert "\n" not in line
    assert "→" in line
    assert 20 < len(line) < 800
    if sizes and name != "multi-query-recall":
        assert ("…" in line) == long


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float32, torch.complex64])
def test_answers_that_are_no_tokens_are_refused(dtype: torch.dtype) -> None:
    batch = sample(build_task(TaskConfig(name="recall", length=8, vocab_size=6)), 2, "train")
    predicted = torch.zeros(batch.targets.shape).to(dtype)
    with pytest.raises(ValueError, match=rf"^exact_match: expected a predicted .* of {dtype}$"):
        exact_match(predicted, batch)


@every_size
def test_sizes_may_be_of_numpy(sizes: dict[str, Any]) -> None:
    small = {k: np.uint8(v) if type(v) is int and v < 256 else v for k, v in sizes.items()}
    one, other = (sample(build_task(TaskConfig(**given)), 3, "train") for given in (small, sizes))
    for found, expected in zip(one, other, strict=True):
        assert torch.equal(found.nan_to_num(), expected.nan_to_num())
