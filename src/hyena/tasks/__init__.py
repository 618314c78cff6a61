"""Recall and reasoning tasks: prompts with known answers, of any length and difficulty."""

from hyena.tasks.addition import Addition
from hyena.tasks.batch import IGNORE, Batch, exact_match
from hyena.tasks.induction import InductionHead
from hyena.tasks.linear_functions import LinearFunctions, least_squares_errors
from hyena.tasks.multi_query_recall import MultiQueryRecall
from hyena.tasks.recall import AssociativeRecall, PlainRecall
from hyena.tasks.repeated import Counting, Majority
from hyena.tasks.task import TASKS, Task, TaskConfig, build_task

__all__ = [
    "IGNORE",
    "TASKS",
    "Addition",
    "AssociativeRecall",
    "Batch",
    "Counting",
    "InductionHead",
    "LinearFunctions",
    "Majority",
    "MultiQueryRecall",
    "PlainRecall",
    "Task",
    "TaskConfig",
    "build_task",
    "exact_match",
    "least_squares_errors",
]
