"""What fine-tuning makes less, and how it is evaluated: see `hyena.training.run`.

Sizes: B rows, L length, C classes or targets, N rows that are evaluated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.model import LanguageModel
from hyena.model.label_outputs import label_outputs
from hyena.scoring.batches import padded, similar

from .batches import RowOrder
from .data import LabelledData, LabelledRows
from .metrics import ClassTally, Metrics, NumberTally


class Processes(Protocol):
    """What an evaluation asks of `lightning_fabric.Fabric`."""

    @property
    def device(self) -> torch.device: ...
    @property
    def global_rank(self) -> int: ...
    @property
    def world_size(self) -> int: ...
    def all_reduce(self, data: Any, group: Any = ..., reduce_op: Any = ...) -> Any: ...


@dataclass(frozen=True, eq=False)
class LabelBatch:
    """Rows of a step that run together.

    Attributes:
        input_ids: (B, L).
        lengths: tokens of each row, (B,).
        targets: classes (B,); classes of positions (B, L), `IGNORE` where there is none; or
            standardised numbers (B, C).
        share: what each row or position counts in the loss of the step, the mean over those of all
            processes.
    """

    input_ids: Tensor
    lengths: Tensor
    targets: Tensor
    share: float


class LabelOutputs(nn.Module):
    """A model as a module whose forward pass is `label_outputs`: what data parallel training
    wraps."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        """(B, L) and (B,) → (B, C), or (B, L, C)."""
        return label_outputs(self.model, input_ids, lengths)


class LabelObjective:
    """The labels of sequences.

    Args:
        data: the rows.
        batch: rows of a step, of all processes together.
        accumulate: micro batches of each process in a step.
        seed: of the order of the rows.

    Attributes:
        labels, tokenizer, fingerprint, notes: of the data.
    """

    def __init__(self, data: LabelledData, *, batch: int, accumulate: int, seed: int) -> None:
        self._data, self._batch, self._accumulate = data, batch, accumulate
        self.labels, self.tokenizer = data.labels, data.tokenizer
        self.fingerprint, self.notes = data.fingerprint, data.notes
        self._first = [data.tokenizer.end_of_text] if data.labels.begin else []
        begin = len(self._first)
        self._lengths = np.array([begin + len(row) for row in data.training.tokens], dtype=np.int64)
        self._order = RowOrder(self._lengths, batch, seed)
        held_out = data.validation.targets
        if self.labels.task == "token-classification":  # of which all may be without a label
            self._evaluates = any((target != IGNORE).any() for target in held_out)
        else:
            self._evaluates = bool(held_out)

    def module(self, model: LanguageModel) -> nn.Module:
        """What is called in training."""
        return LabelOutputs(model)

    def parts(self, step: int, rank: int, world: int) -> Sequence[LabelBatch]:
        """The micro batches of a process in the update that follows ``step`` finished ones."""
        rows, targets = self._order.rows(step), self._data.training.targets
        count = len(rows)
        if self.labels.task == "token-classification":
            count = sum(int((targets[row] != IGNORE).sum()) for row in rows)
        share = world / max(1, count)  # gradients of the processes are averaged
        parts = np.split(rows, world * self._accumulate)
        return [self._part(part, share) for part in parts[rank::world]]

    def loss(self, model: Any, part: LabelBatch, device: torch.device) -> Tensor:
        """A part's share of the loss of the step; all of them add up."""
        outputs = model(part.input_ids.to(device), part.lengths.to(device))
        if self.labels.task == "regression":
            targets = part.targets.to(outputs.dtype).to(device)  # MPS has no float64
            loss = (outputs - targets).square().mean(-1).sum()
        else:
            flat = outputs.flatten(0, -2), part.targets.flatten().to(device)
            loss = F.cross_entropy(*flat, ignore_index=IGNORE, reduction="sum")
        return loss * part.share

    def size(self, step: int) -> tuple[int, int]:
        """The tokens of the longest row of a step, and of all of them."""
        lengths = self._lengths[self._order.rows(step)]
        return int(lengths.max()), int(lengths.sum())

    def compares_from(self, step: int) -> int:
        """The step from which on losses of evaluations compare with that after ``step``."""
        return 0

    def evaluates(self, step: int) -> bool:
        """Whether there is something to evaluate on."""
        return self._evaluates

    def evaluate(self, model: LanguageModel, step: int, fabric: Processes) -> Metrics:
        """Loss and metrics on all rows that are held out, the same in all processes."""
        rows, world = self._data.validation, fabric.world_size
        mine = list(range(fabric.global_rank, len(rows), world))
        tally = self._tally(rows)
        at_once = max(1, self._batch // (self._accumulate * world))
        begin = len(self._first)
        lengths = [begin + len(rows.tokens[row]) for row in mine]
        with evaluation_mode(model), torch.no_grad():
            for places in similar(lengths, at_once, model.config):
                some = [mine[place] for place in places]
                ids, counts = padded([rows.tokens[row] for row in some], self._first)
                device = fabric.device
                outputs = label_outputs(model, ids.to(device), counts.to(device)).cpu()
                self._count(tally, rows, some, outputs)
        if world > 1:
            shared = fabric.all_reduce(tally.shared.to(fabric.device), reduce_op="sum")
            tally.shared = shared.cpu()
        return {f"validation_{name}": value for name, value in tally.metrics().items()}

    def _part(self, places: NDArray[np.int64], share: float) -> LabelBatch:
        rows, data = places.tolist(), self._data.training
        ids, lengths = padded([data.tokens[row] for row in rows], self._first)
        targets = [torch.from_numpy(np.asarray(data.targets[row])) for row in rows]
        if self.labels.task != "token-classification":
            return LabelBatch(ids, lengths, torch.stack(targets), share)
        of_positions = torch.full(ids.shape, IGNORE)
        for into, target in zip(of_positions, targets, strict=True):
            into[len(self._first) : len(self._first) + len(target)] = target
        return LabelBatch(ids, lengths, of_positions, share)

    def _tally(self, rows: LabelledRows) -> ClassTally | NumberTally:
        if self.labels.task == "regression":
            return NumberTally(self.labels, torch.from_numpy(np.array(rows.targets)))
        return ClassTally(self.labels)

    def _count(
        self,
        tally: ClassTally | NumberTally,
        rows: LabelledRows,
        some: list[int],
        outputs: Tensor,
    ) -> None:
        """Adds what the model says of some rows."""
        if isinstance(tally, NumberTally):
            tally.add(some, outputs)
            return
        targets = [torch.from_numpy(np.asarray(rows.targets[row])) for row in some]
        if self.labels.task == "classification":
            tally.add(outputs, torch.stack(targets))
            return
        for of_row, target in zip(outputs, targets, strict=True):
            known = target != IGNORE
            tally.add(of_row[len(self._first) :][: len(target)][known], target[known])
