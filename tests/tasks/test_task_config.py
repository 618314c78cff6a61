"""Which settings of a task are refused, and how."""

import re
from typing import Any

import pytest

from hyena.tasks import TaskConfig, build_task
from hyena.tasks.task import READS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "recal"},
            f"task.name: expected one of {', '.join(READS)}, got 'recal'",
        ),
        (
            {"name": "addition", "length": 64},
            "task.length=64 has no effect on addition, which reads digits; leave it out",
        ),
        (
            {"name": "addition", "vocab_size": 10},
            "task.vocab_size=10 has no effect on addition, which reads digits; leave it out",
        ),
        (
            {"name": "recall", "pairs": 3},
            "task.pairs=3 has no effect on recall, which reads length, vocab_size, most_keys, "
            "alphabet; leave it out",
        ),
        (
            {"name": "induction", "dimension": 3},
            "task.dimension=3 has no effect on induction, which reads length, vocab_size, "
            "copy_length, triggers; leave it out",
        ),
    ],
)
def test_a_config_that_means_nothing_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        TaskConfig(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "recall", "length": 7},
            "recall: length: expected an even number of at least 2, for pairs, got 7",
        ),
        (
            {"name": "recall", "length": 0},
            "recall: length: expected an even number of at least 2, for pairs, got 0",
        ),
        (
            {"name": "recall", "vocab_size": 3},
            "recall: vocab_size: expected at least 4, for a key, a value and the two special "
            "tokens, got 3",
        ),
        (
            {"name": "recall-plain", "length": 3},
            "recall-plain: length: expected an even number of at least 2, for pairs, got 3",
        ),
        (
            {"name": "recall-plain", "vocab_size": 1},
            "recall-plain: vocab_size: expected at least 2, for a key and a value, got 1",
        ),
        (
            {"name": "multi-query-recall", "length": 3},
            "multi-query-recall: length: expected at least 4, for a pair and a slot, got 3",
        ),
        (
            {"name": "multi-query-recall", "vocab_size": 2},
            "multi-query-recall: vocab_size: expected at least 3, for a key, a value and the "
            "no-op, got 2",
        ),
        (
            {"name": "multi-query-recall", "pairs": 15},
            "multi-query-recall: pairs: expected 1 to 14, since vocab_size=30 has 14 keys and a "
            "pair takes 4 of the 1024 tokens, got 15",
        ),
        (
            {"name": "multi-query-recall", "pairs": 0},
            "multi-query-recall: pairs: expected 1 to 14, since vocab_size=30 has 14 keys and a "
            "pair takes 4 of the 1024 tokens, got 0",
        ),
        (
            {"name": "induction", "vocab_size": 2},
            "induction: vocab_size: expected at least 3, got 2",
        ),
        (
            {"name": "induction", "copy_length": 0},
            "induction: copy_length: expected at least 1, got 0",
        ),
        ({"name": "induction", "triggers": 0}, "induction: triggers: expected at least 1, got 0"),
        (
            {"name": "induction", "length": 11, "triggers": 3, "copy_length": 3},
            "induction: length: expected at least 12, for triggers=3 each followed by "
            "copy_length=3 tokens, got 11",
        ),
        ({"name": "majority", "length": 2}, "majority: length: expected at least 3, got 2"),
        ({"name": "majority", "vocab_size": 1}, "majority: vocab_size: expected at least 2, got 1"),
        ({"name": "counting", "length": 1}, "counting: length: expected at least 2, got 1"),
        (
            {"name": "counting", "vocab_size": 3},
            "counting: vocab_size: expected at least 4, for two letters and two numbers, got 3",
        ),
        (
            {"name": "linear-functions", "dimension": 0},
            "linear-functions: dimension: expected at least 1, got 0",
        ),
        (
            {"name": "linear-functions", "pairs": 0},
            "linear-functions: pairs: expected at least 1, got 0",
        ),
        ({"name": "addition", "digits": 0}, "addition: digits: expected at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    config = TaskConfig(**values)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build_task(config)


@pytest.mark.parametrize(
    "values",
    [
        {"name": "recall", "length": 2, "vocab_size": 6},
        {"name": "recall-plain", "length": 2, "vocab_size": 20},
        {"name": "multi-query-recall", "length": 4, "vocab_size": 20},
        {"name": "induction", "length": 2, "vocab_size": 30},
        {"name": "majority", "length": 3, "vocab_size": 9},
        {"name": "counting", "length": 2, "vocab_size": 12},
    ],
)
def test_the_shortest_prompts_work(values: dict[str, Any], generator) -> None:
    task = build_task(TaskConfig(**values))
    assert len(task.sample(3, generator, "train").inputs) == 3


@pytest.mark.parametrize("value", [1.5, "3", True, [4], 10**19, float("nan")])
@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, fields in READS.items() for field in fields],
)
def test_a_size_that_is_no_whole_number_or_too_large(name: str, field: str, value: Any) -> None:
    message = rf"^{name}: {field}: expected (a whole number|at most 2147483648), got "
    with pytest.raises(ValueError, match=message):
        build_task(TaskConfig(name=name, **{field: value}))
