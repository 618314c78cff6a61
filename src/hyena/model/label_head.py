"""The head that fine-tuning puts on a language model: classes or numbers of a sequence, or a class
of each of its positions.

Sizes: B batch, L length, D width, C classes, or targets of a regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from hyena.arguments import shown
from hyena.filters.plain import call_in
from hyena.model.initialization import STD

LabelTask = Literal["classification", "regression", "token-classification"]
Pool = Literal["mean", "last"]

_SLICE = 1 << 14  # positions that are widened at once


@dataclass(frozen=True)
class Labels:
    """What a `LabelHead` says of a sequence.

    Attributes:
        task: a class, numbers, or a class of each token.
        names: the classes, or the targets of a regression.
        pool: what is read of a sequence as a whole: the mean over its tokens, or the last one,
            which alone has read all others.
        begin: whether the tokenizer's end of text stands before each sequence; it is no token of
            the sequence.
        means, deviations: of each target of a regression in the training rows; the head gives
            numbers in these units.
        sequence: of a table, the column of the sequences that it was trained on, where others are
            looked for first. It is no part of what it says.
        columns: the same of the labels.

    Raises: ValueError on a task, a pool, names or numbers that cannot be.
    """

    task: LabelTask
    names: tuple[str, ...]
    pool: Pool = "mean"
    begin: bool = True
    means: tuple[float, ...] = ()
    deviations: tuple[float, ...] = ()
    sequence: str = field(default="sequence", compare=False)
    columns: tuple[str, ...] = field(default=("label",), compare=False)

    def __post_init__(self) -> None:
        for name, kinds in (("task", LabelTask), ("pool", Pool)):
            value = getattr(self, name)
            if value not in get_args(kinds):
                known = ", ".join(get_args(kinds))
                raise ValueError(f"labels: expected {name} of {known}, got {shown(value)}")
        regression = self.task == "regression"
        if len(set(self.names)) < max(len(self.names), 1 if regression else 2):
            what = "targets of different names" if regression else "two classes or more, each once"
            raise ValueError(f"labels: expected {what}, got {', '.join(self.names) or 'none'}")
        count = len(self.names) if regression else 0
        numbers = (*self.means, *self.deviations)
        if (
            (len(self.means), len(self.deviations)) != (count, count)
            or not all(map(math.isfinite, numbers))
            or any(x <= 0 for x in self.deviations)
        ):
            raise ValueError(
                f"labels: expected {count} finite means and positive deviations, got {self.means} "
                f"and {self.deviations}"
            )


class LabelHead(nn.Module):
    """Reads what the language model's head reads, pooled or at each position, and gives the logits
    of classes or standardised numbers. Computed in float32 or wider, under autocast too.

    Args:
        width: D.
        labels: what it is to say.
        generator: of the initial weights, N(0, 0.02) beside a bias of 0.
        device, dtype: of the parameters.

    Attributes:
        labels: as given.
        linear: from D to C.
    """

    def __init__(
        self,
        width: int,
        labels: Labels,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.labels = labels
        # Drawn here alone: PyTorch's own first values come from its global generator.
        self.linear = nn.Linear(width, len(labels.names), device="meta", dtype=dtype)
        place = torch.empty(0, device=device).device
        if place.type != "meta":
            self.linear.to_empty(device=place)
            nn.init.normal_(self.linear.weight, std=STD, generator=generator)
            nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor, real: Tensor, *, pool: Pool | None = None) -> Tensor:
        """What the head says.

        Args:
            x: (B, L, D), after the model's norm.
            real: (B, L) bool, True at the tokens of the sequences, of which each row has one or
                more.
            pool: instead of that of the labels.

        Returns: (B, C), or of each position (B, L, C), in float32 or wider.
        """
        wide = torch.promote_types(x.dtype, torch.float32)
        if self.labels.task != "token-classification":
            x = pooled(x, real, self.labels.pool if pool is None else pool)
        with torch.autocast(x.device.type, enabled=False):
            return call_in(self.linear, x.to(wide))

    def extra_repr(self) -> str:
        return f"task={self.labels.task!r}, pool={self.labels.pool!r}"


def pooled(x: Tensor, real: Tensor, pool: Pool) -> Tensor:
    """Of x (B, L, D) the mean over the real positions of each row, or the last of them: (B, D), in
    float32 or wider. What stands at the others has no part in it, be it NaN."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if pool == "last":
        columns = torch.arange(x.shape[1], device=x.device)
        last = columns.expand(real.shape).masked_fill(~real, -1).amax(1)
        return x[torch.arange(x.shape[0], device=x.device), last].to(wide)
    total = torch.zeros(x.shape[0], x.shape[2], dtype=wide, device=x.device)
    for part, kept in zip(x.split(_SLICE, 1), real.split(_SLICE, 1), strict=True):
        total = total + part.to(wide).masked_fill(~kept.unsqueeze(-1), 0).sum(1)
    return total / real.sum(1, keepdim=True)
