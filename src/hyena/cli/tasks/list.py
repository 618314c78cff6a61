"""`hyena tasks list`: the tasks there are."""

from dataclasses import dataclass

from hyena.tasks import TASKS

POSITIONAL = None


@dataclass
class Config:
    """Nothing to choose."""


def run(config: Config) -> None:
    """Prints a line a task."""
    width = max(map(len, TASKS))
    print("\n".join(f"{name:{width}}  {summary}" for name, summary in TASKS.items()))
