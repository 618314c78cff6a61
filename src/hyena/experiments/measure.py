"""What a model gets right: its loss in training, and on held-out sequences its accuracy with an
interval, or its squared error beside that of least squares."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.experiments.curriculum import Stream, generator, micro_batches
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.tasks import IGNORE, Batch, Task, exact_match, least_squares_errors

Z = 1.959964  # of the normal distribution: 95% lie within ± Z standard deviations


def wilson(share: float, count: int) -> tuple[float, float]:
    r"""The 95% interval of a share of ``count`` independent trials (Wilson 1927).

    .. math:: \frac{p + z^2/2n \pm z\sqrt{p(1-p)/n + z^2/4n^2}}{1 + z^2/n}

    Unlike p ± z·√(p(1−p)/n) it stays within 0 and 1, and is no point where p is 0 or 1. It holds p
    itself, whatever rounding does.

    Raises: ValueError if there are no trials.
    """
    if count < 1:
        raise ValueError(f"an interval was asked for, but there are {count} trials")
    middle = share + Z * Z / (2 * count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    whole = 1 + Z * Z / count
    low, high = (middle - half) / whole, (middle + half) / whole
    return max(0.0, min(low, share)), min(1.0, max(high, share))


Measure = Literal["accuracy", "exact match", "squared error"]

# What is known to be best on a real-valued task: squared errors (B, n) of the answers to a batch.
_BEST = {"linear-functions": least_squares_errors}

# Sequences are drawn so many tokens at a time. A constant, so that all models see the same ones.
_DRAWN = 1 << 18


@dataclass(frozen=True)
class Measurement:
    """A figure on held-out sequences.

    Attributes:
        measure: what it is, see `measure_of`.
        value: the figure itself, a share of 1 or a mean squared error.
        interval: its 95% interval.
        sequences: that it was taken on.
        details: further figures, plain.
    """

    measure: Measure
    value: float
    interval: tuple[float, float]
    sequences: int
    details: dict[str, Any]


def measure_of(task: Task) -> Measure:
    """What counts on a task: the share of answers that are right; on addition, of sums in which
    every digit is; on real-valued tasks the mean squared error of the answers."""
    if task.features:
        return "squared error"
    return "exact match" if task.name == "addition" else "accuracy"


def better(measure: Measure, one: float, other: float) -> bool:
    """Whether the first figure is better than the second."""
    return one < other if measure == "squared error" else one > other


def as_text(measure: Measure, value: float) -> str:
    """A figure as it is printed."""
    return f"{value:.4g}" if measure == "squared error" else f"{100 * value:.1f}%"


def with_interval(found: Measurement) -> str:
    """A measurement as it is printed."""
    value, low, high = (as_text(found.measure, x) for x in (found.value, *found.interval))
    return f"{value} ({low} to {high})"


def held_out(
    task: Task, count: int, *, split: Literal["train", "test"], seed: int
) -> Iterator[Batch]:
    """``count`` sequences in batches, always the same ones for the same arguments.

    Sequences of the train split are drawn from a stream of their own, for validation.
    """
    stream = Stream.TEST if split == "test" else Stream.VALIDATION
    size = max(1, _DRAWN // task.length)
    for index, first in enumerate(range(0, count, size)):
        yield task.sample(min(size, count - first), generator(seed, stream, index), split)


@torch.no_grad()
def measure(
    model: nn.Module,
    task: Task,
    batches: Iterator[Batch],
    *,
    micro_tokens: int,
    check: Callable[[], None] = lambda: None,
) -> Measurement:
    """Measures a model on batches of a task, in evaluation mode.

    Args:
        model: maps inputs (B, T) or (B, T, E) to logits (B, T, V) or predictions (B, T).
        task: what the batches are of.
        batches: at least two sequences, which have a spread.
        micro_tokens: tokens at a time.
        check: called now and then; what it raises ends the measurement.
    """
    rows = []
    with evaluation_mode(model):
        for batch in batches:
            for part in micro_batches(batch, micro_tokens):
                check()
                rows.append(_rows(model, task, part))
    if task.features:
        return _errors(torch.cat(rows))
    return _shares(measure_of(task), torch.cat(rows))


def _rows(model: nn.Module, task: Task, batch: Batch) -> Tensor:
    """What is known of each sequence: of tokens (B, 3), how many answers it has, how many are
    right, and whether all are; of numbers (B, n, 1 or 2), the squared errors and, where there is
    such a thing, those of least squares."""
    outputs = model(batch.inputs)
    if not task.features:
        predicted = outputs.argmax(dim=2)
        right = ((predicted == batch.targets) & batch.answers).sum(dim=1)
        columns = [batch.answers.sum(dim=1), right, exact_match(predicted, batch)]
        return torch.stack([column.long() for column in columns], dim=1)
    errors = (outputs.double() - batch.targets.double()).square()
    own = errors[batch.answers].view(len(errors), -1)  # each row has as many answers
    columns = [own, *(best(batch) for name, best in _BEST.items() if name == task.name)]
    return torch.stack(columns, dim=2)


def _shares(name: Measure, rows: Tensor) -> Measurement:
    sequences = len(rows)
    answers, right, exact = (int(total) for total in rows.sum(dim=0))
    # The answers within a sequence depend on each other, so only sequences are counted as trials:
    # the interval of a task with many answers is rather too wide than too narrow.
    shares = {"accuracy": right / answers, "exact match": exact / sequences}
    details = {
        "answers": answers,
        "accuracy": shares["accuracy"],
        "accuracy_interval": list(wilson(shares["accuracy"], sequences)),
        "exact_match": shares["exact match"],
        "exact_match_interval": list(wilson(shares["exact match"], sequences)),
    }
    value = shares[name]
    return Measurement(name, value, wilson(value, sequences), sequences, details)


def _errors(rows: Tensor) -> Measurement:
    """Of rows (B, n, 1 or 2): by the number of examples, 0 to n − 1."""
    mean = rows.mean(dim=0)
    each = rows[:, :, 0].mean(dim=1)
    value = float(each.mean())
    half = Z * float(each.std()) / math.sqrt(len(each))
    details: dict[str, Any] = {
        "examples": list(range(rows.shape[1])),
        "squared_error": mean[:, 0].tolist(),
    }
    if mean.shape[1] == 2:
        details["least_squares"] = mean[:, 1].tolist()
        details["least_squares_mean"] = float(mean[:, 1].mean())
    interval = (max(0.0, value - half), value + half)
    return Measurement("squared error", value, interval, len(rows), details)


class TaskLoss:
    """The loss of the parts of a batch, each its share of the mean over all targets of the batch.

    Cross-entropy in nats a token, or squared error where the targets are numbers. Each target
    counts the same, whichever part it is in.

    Args:
        parts: all that it is going to be asked for.

    Attributes:
        right: answers so far that were right; 0 if the targets are numbers.
        answers: that were asked for so far.

    Raises: ValueError if there is no target at all.
    """

    def __init__(self, parts: Sequence[Batch]) -> None:
        self._targets = sum(int(_has_target(part.targets).sum()) for part in parts)
        if not self._targets:
            raise ValueError("the task gave a batch without a single target; is it too short?")
        self.right = self.answers = 0

    def __call__(self, model: nn.Module, part: Batch) -> Tensor:
        """A scalar."""
        outputs, targets = model(part.inputs), part.targets
        self.answers += int(part.answers.sum())
        if targets.is_floating_point():
            kept = _has_target(targets)
            loss = F.mse_loss(outputs[kept], targets[kept], reduction="sum")
        else:
            found = outputs.detach()[part.answers].argmax(-1)
            self.right += int((found == targets[part.answers]).sum())
            loss = F.cross_entropy(
                outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
            )
        return loss / self._targets


def _has_target(targets: Tensor) -> Tensor:
    """Where there is a loss, (B, T) bool."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORE
