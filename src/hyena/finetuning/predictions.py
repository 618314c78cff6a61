"""Labels of sequences, by a model that was fine-tuned.

Sizes: n tokens of a sequence, C classes, T targets.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyena.arguments import check_whole
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.generation.model import check_model
from hyena.model import LanguageModel
from hyena.model.label_head import Labels
from hyena.model.label_outputs import label_head_of, label_outputs
from hyena.scoring.batches import padded, similar, waiting
from hyena.scoring.sequences import OnError, Read, Reader, Sequences, SoftMasked, Tokens, room

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What `predict` found of one sequence.

    What is not of the model's task is None, and all of it if the sequence was skipped.
    """

    index: int
    """Its place among the sequences, from 0."""
    name: str
    """Its own, or its place."""
    tokens: int = 0
    """How many it has."""
    label: str | None = None
    """The likeliest class."""
    labels: tuple[str, ...] | None = None
    """The likeliest class of each token."""
    probabilities: Numbers | None = None
    """Of all classes, in the order of ``model.label_head.labels.names``: (C,), or a row a token,
    (n, C)."""
    values: Numbers | None = None
    """The targets of a regression, in the same order, (T,)."""
    skipped: str | None = None
    """Why there is nothing, or None."""
    names: tuple[str, ...] = ()
    """The classes or targets."""

    def record(self) -> dict[str, Any]:
        """As JSON has it.

        A number a class or target, ``probability_CLASS`` or ``predicted_TARGET``; of tokens the
        classes as a text, with blanks between them if some have several letters, and the
        probability of each.
        """
        found: dict[str, Any] = {"index": self.index, "name": self.name}
        if self.skipped is not None:
            return {**found, "skipped": self.skipped}
        found["tokens"] = self.tokens
        if self.values is not None:
            values = zip(self.names, self.values.tolist(), strict=True)
            return found | {f"predicted_{name}": value for name, value in values}
        assert self.probabilities is not None
        if self.labels is not None:
            short = all(len(name) == 1 for name in self.names)
            found["labels"] = ("" if short else " ").join(self.labels)
            return {**found, "probabilities": self.probabilities.max(-1).tolist()}
        found["label"] = self.label
        each = zip(self.names, self.probabilities.tolist(), strict=True)
        return found | {f"probability_{name}": value for name, value in each}


def predict(
    model: LanguageModel,
    tokenizer: Tokenizer,
    sequences: Sequences,
    *,
    both_strands: bool = False,
    soft_masked: SoftMasked = "fold",
    batch: int = 8,
    on_error: OnError = "stop",
) -> Iterator[Prediction]:
    """The labels of each sequence, in order, as far as they are asked for.

    Sequences of similar lengths run together; a few of them are in memory at a time. The model is
    in evaluation mode from the first sequence to the last.

    Args:
        model: with a head for labels, as `hyena.load` gives it of a run of ``hyena train --task``.
        tokenizer: see `hyena.data.load_tokenizer`.
        sequences: a text, or texts, Documents of `hyena.data`, or records of ``hyena.genomes``.
        both_strands: of DNA, the mean of the probabilities or numbers of the sequence and of its
            reverse complement, token by token where each has its own.
        soft_masked: as in `hyena.score`. Rows with labels are folded in training.
        batch: sequences at a time, 1 or more.
        on_error: what a sequence does that cannot be read, such as an empty one: "stop" raises,
            "skip" says why in its place.

    Returns: an iterator of `Prediction`, one a sequence.
    Raises: TypeError if it is no model; ValueError if it has no head for labels, on an argument out
        of range, on a sequence that cannot be read, and if what the model gives is not finite.
    Warns: as `hyena.score`.
    """
    check_model("model", model, LanguageModel)
    head = label_head_of("predict", model)
    limit = room(model.config)
    reader = Reader(
        model,
        tokenizer,
        both_strands=both_strands,
        on_error=on_error,
        soft_masked=soft_masked,
        most=None if limit is None else limit - (1 if head.labels.begin else 0),
        begins=head.labels.begin,
    )
    first = [tokenizer.end_of_text] if head.labels.begin else []
    runner = _Runner(model, head.labels, first, check_whole("batch", batch))
    return _predictions(runner, reader.read(sequences))


class _Runner:
    """What is done with tokens: through the model and its head."""

    def __init__(self, model: LanguageModel, labels: Labels, first: list[int], batch: int) -> None:
        self.model, self.labels, self.batch, self._first = model, labels, batch, first

    def numbers(self, sequences: Sequence[Tokens]) -> list[Numbers]:
        """Of each sequence the probabilities of the classes, or the targets in their units."""
        begin, found = len(self._first), dict[int, Numbers]()
        device = next(self.model.parameters()).device
        lengths = [begin + len(tokens) for tokens in sequences]
        for places in similar(lengths, self.batch, self.model.config):
            ids, counts = padded([sequences[i] for i in places], self._first)
            with torch.no_grad():
                outputs = label_outputs(self.model, ids.to(device), counts.to(device))
            for of_row, i in zip(outputs.cpu().double(), places, strict=True):
                if self.labels.task == "token-classification":
                    of_row = of_row[begin : lengths[i]]
                found[i] = self._of_outputs(of_row)
        return [found[i] for i in range(len(sequences))]

    def _of_outputs(self, outputs: torch.Tensor) -> Numbers:
        if not bool(outputs.isfinite().all()):
            raise ValueError("what the model gives is not finite; its weights may be damaged")
        labels = self.labels
        if labels.task != "regression":
            return outputs.softmax(-1).numpy()
        return outputs.numpy() * np.array(labels.deviations) + np.array(labels.means)


def _predictions(runner: _Runner, sequences: Generator[Read, None, None]) -> Iterator[Prediction]:
    with evaluation_mode(runner.model), closing(sequences):
        for some in waiting(sequences, lambda one: one.size, runner.batch):
            found = iter(runner.numbers([x for one in some for x in one.strands]))
            for one in some:
                of_strands = [next(found) for _ in one.strands]
                yield _prediction(runner.labels, one, of_strands)


def _prediction(labels: Labels, one: Read, of_strands: list[Numbers]) -> Prediction:
    """Of a sequence, from what the model gives of its strands."""
    if one.skipped is not None:
        return Prediction(one.index, one.name, skipped=one.skipped)
    common: dict[str, Any] = {"tokens": len(one.strands[0]), "names": labels.names}
    of_tokens = labels.task == "token-classification"
    numbers, *others = of_strands
    for other in others:
        if numbers.shape != other.shape:
            raise ValueError(
                f"{one.name}: its strands have {len(numbers)} and {len(other)} tokens, which "
                "cannot be paired; leave both_strands out"
            )
        numbers = (numbers + (other[::-1] if of_tokens else other)) / 2
    if labels.task == "regression":
        return Prediction(one.index, one.name, values=numbers, **common)
    likeliest = numbers.argmax(-1)
    if of_tokens:
        names = tuple(labels.names[i] for i in likeliest.tolist())
        return Prediction(one.index, one.name, labels=names, probabilities=numbers, **common)
    label = labels.names[int(likeliest)]
    return Prediction(one.index, one.name, label=label, probabilities=numbers, **common)
