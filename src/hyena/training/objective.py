"""What a run trains a model for: the batches that it reads, their loss, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from hyena.data import Tokenizer
from hyena.model import LanguageModel
from hyena.model.label_head import Labels

if TYPE_CHECKING:
    from lightning_fabric.fabric import Fabric


class Objective(Protocol):
    """The next token of windows of text, or the labels of sequences.

    All of it is a function of what it was made from and of the step, so that a run that goes on
    reads what the uninterrupted one did.

    Attributes:
        labels: what a head of the model is to say; None without one.
        tokenizer: of what is read.
        fingerprint: of all that is read.
        notes: on what is not as it was asked for.
    """

    @property
    def labels(self) -> Labels | None: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def fingerprint(self) -> dict[str, str]: ...
    @property
    def notes(self) -> list[str]: ...

    def module(self, model: LanguageModel) -> nn.Module:
        """What is called in training: the model, or what calls it."""

    def parts(self, step: int, rank: int, world: int) -> Sequence[Any]:
        """The micro batches of one process in the update that follows ``step`` finished ones."""

    def loss(self, model: Any, part: Any, device: torch.device) -> Tensor:
        """A part's share of the loss, in nats or squared deviations; all of them add up."""

    def size(self, step: int) -> tuple[int, int]:
        """The tokens of the longest row of a step, and of all rows of all processes."""

    def evaluates(self, step: int) -> bool:
        """Whether there is something to evaluate on after the step."""

    def compares_from(self, step: int) -> int:
        """Evaluations after this step compare with that of the step that is given."""

    def evaluate(self, model: LanguageModel, step: int, fabric: Fabric) -> dict[str, float]:
        """``validation_loss``, and what else is measured, the same in all processes."""
