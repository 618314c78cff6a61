"""The sequences that grow together, each at a position of its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hyena.generation.continuation import Continuation
from hyena.generation.model import device_of
from hyena.generation.sampling import Alternatives, Sampling, likeliest, logprobs, sample
from hyena.generation.state import ModelState
from hyena.model import LanguageModel
from hyena.serving.request import Deliver, Request, Ticket


@dataclass(eq=False)
class Job:
    """A request with its sequences, from when it is taken on to its end."""

    request: Request
    prompt: list[int]
    sequences: list[Continuation]
    ticket: Ticket
    deliver: Deliver

    def cancel(self) -> None:
        """Ends what is still growing."""
        for sequence in self.sequences:
            if sequence.finished is None:
                self.deliver(sequence.cancel())


@dataclass(eq=False)
class Row:
    """A sequence of a job."""

    job: Job
    sequence: Continuation


class Batch:
    """Rows that have each drawn a token which the model has not read yet.

    Attributes: ``rows``.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._state: ModelState | None = None

    def join(self, rows: Sequence[Row], state: ModelState) -> None:
        """More rows, with the state of each before the token that it has drawn."""
        states = [state] if self._state is None else [self._state, state]
        self._state = ModelState.gather(states)
        self.rows += rows

    def step(self) -> Tensor:
        """The model reads the token of each row: logits of the next ones, (B, V)."""
        assert self._state is not None
        read = [row.sequence.unread for row in self.rows]
        tokens = torch.tensor(read, device=device_of(self._model))
        logits, self._state = self._model.step(tokens, self._state)
        return logits

    def drop_finished(self) -> None:
        """Rows that have ended leave, and cost nothing further."""
        stay = [i for i, row in enumerate(self.rows) if row.sequence.finished is None]
        if len(stay) < len(self.rows):
            self.rows = [self.rows[i] for i in stay]
            left = None if self._state is None or not stay else self._state.select(stay)
            self._state = None if left is None else ModelState.gather([left])

    def clear(self) -> None:
        """Forgets all rows."""
        self.rows, self._state = [], None


def draw(rows: Sequence[Row], logits: Tensor) -> None:
    """The next token of each row from its logits (B, V), handed to whoever asked."""
    groups: dict[Sampling, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        groups[row.job.request.sampling].append(i)
    for sampling, places in groups.items():
        own, sequences = logits[places], [rows[i].sequence for i in places]
        seen = _seen(sequences, own) if sampling.repetition_penalty != 1 else None
        tokens = sample(own, sampling, [each.generator for each in sequences], seen).tolist()
        scores = logprobs(own)
        count = max(rows[i].job.request.alternatives for i in places)
        others = likeliest(scores, count)
        for j, i in enumerate(places):
            job, sequence = rows[i].job, rows[i].sequence
            wanted = others[j][: job.request.alternatives]
            job.deliver(sequence.take(tokens[j], float(scores[j, tokens[j]]), wanted))


def _seen(sequences: Sequence[Continuation], logits: Tensor) -> Tensor:
    """Which tokens the repetition penalty is for, like the logits (B, V)."""
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for read, sequence in zip(seen, sequences, strict=True):
        read[list(sequence.tokens)] = True
        read[list(sequence.ending.last_tokens())] = False
    return seen


def scores_of(
    logits: Tensor, tokens: Sequence[int], alternatives: int
) -> list[tuple[float, Alternatives]]:
    """How a model that gave logits (n, V) expected the n tokens."""
    scores = logprobs(logits)
    own = scores.gather(-1, torch.tensor(tokens, device=scores.device)[:, None])[:, 0]
    return list(zip(own.tolist(), likeliest(scores, alternatives), strict=True))
