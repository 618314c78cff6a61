"""The training loss of a task."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hyena.tasks import IGNORE, Batch


class TaskLoss:
    """The loss of the parts of a batch, each its share of the mean over all targets of the batch.

    Cross-entropy in nats a token, or squared error where the targets are numbers. Each target
    counts the same, whichever part it is in.

    Args: the parts that it is going to be asked for.

    Attributes:
        right: answers so far that were right; 0 if the targets are numbers.
        answers: that were asked for so far.

    Raises: ValueError if there is no target at all.
    """

    def __init__(self, parts: Sequence[Batch]) -> None:
        self._targets = sum(int(has_target(part.targets).sum()) for part in parts)
        if not self._targets:
            raise ValueError("the task gave a batch without a single target; is it too short?")
        self.right = self.answers = 0

    def __call__(self, model: nn.Module, part: Batch) -> Tensor:
        """A scalar."""
        outputs, targets = model(part.inputs), part.targets
        self.answers += int(part.answers.sum())
        if targets.is_floating_point():
            kept = has_target(targets)
            loss = F.mse_loss(outputs[kept], targets[kept], reduction="sum")
        else:
            found = outputs.detach()[part.answers].argmax(-1)
            self.right += int((found == targets[part.answers]).sum())
            loss = F.cross_entropy(
                outputs.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum"
            )
        return loss / self._targets


def has_target(targets: Tensor) -> Tensor:
    """Where there is a loss, (B, T) bool."""
    return ~targets.isnan() if targets.is_floating_point() else targets != IGNORE
