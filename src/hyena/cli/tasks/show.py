"""`hyena tasks show`: prompts as a person reads them."""

from dataclasses import dataclass, field
from typing import Literal

import torch

from hyena.arguments import plural
from hyena.cli.values import check_at_least
from hyena.tasks import TaskConfig, build_task
from hyena.tasks.splits import TEST_SHARE

POSITIONAL = "task.name"
AT_ONCE = 100  # prompts drawn together, so that the first is not late and many need no more memory


@dataclass
class Config:
    """Which prompts to show."""

    task: TaskConfig = field(default_factory=TaskConfig)
    """The task and its sizes."""
    count: int = 3
    """Prompts."""
    split: Literal["train", "test"] = "train"
    """Of training or of test."""
    seed: int = 0
    """Seed of the prompts."""

    def __post_init__(self) -> None:
        check_at_least(1, count=self.count)
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed: expected at least 0 and below 2^64, got {self.seed}")


def run(config: Config) -> None:
    """Prints the prompts, and what a model of the task reads."""
    task = build_task(config.task)
    generator = torch.Generator().manual_seed(config.seed)
    for start in range(0, config.count, AT_ONCE):
        batch = task.sample(min(AT_ONCE, config.count - start), generator, config.split)
        for row in range(len(batch.inputs)):
            print(task.show(batch, row))
    kind = (
        f"{task.features} {plural(task.features, 'number')}"
        if task.features
        else f"one of {task.vocab_size} tokens"
    )
    share = 100 * TEST_SHARE
    print(
        f"\n{task.length:,} positions of {kind} each; {share:.0f}% of all prompts are for the test"
    )
