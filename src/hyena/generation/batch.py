"""Sequences that are advanced together, and the drawing of their next tokens."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from hyena.generation.continuation import Continuation
from hyena.generation.model import Model, device_of
from hyena.generation.prompts import batches, pad_left
from hyena.generation.results import SequenceState
from hyena.generation.sampling import Alternatives, Sampling, likeliest, logprobs, sample
from hyena.generation.state import ModelState


class Batch:
    """Sequences at one position of the model, with its state and logits after what they have read.

    Attributes: ``rows``, the sequences that are still growing.
    """

    def __init__(
        self, model: Model, rows: Sequence[Continuation], state: ModelState, logits: Tensor
    ) -> None:
        self.rows = list(rows)
        self._model, self._state, self._logits = model, state, logits
        self._read = torch.zeros_like(logits, dtype=torch.bool)
        for row, read in zip(rows, self._read, strict=True):
            read[list(row.tokens)] = True
        self._read[:, list(rows[0].ending.last_tokens())] = False  # which no penalty is for

    def draw(self, sampling: Sampling, alternatives: int) -> list[tuple[int, float, Alternatives]]:
        """For each row its next token, the token's log-probability, and the likeliest tokens."""
        tokens = sample(self._logits, sampling, [row.generator for row in self.rows], self._read)
        own = logprobs(self._logits)
        chosen = own.gather(-1, tokens.to(own.device)[:, None])[:, 0]
        others = likeliest(own, alternatives)
        return list(zip(tokens.tolist(), chosen.tolist(), others, strict=True))

    @torch.no_grad()
    def advance(self, return_state: bool) -> None:
        """Feeds the new tokens and drops the finished rows, so that they cost nothing further.

        Args: return_state: finished rows get their state; whose last token is to be read, after it.
        """
        finished = [row for row in self.rows if row.finished]
        read = [row for row in finished if row.unread is None]
        self._drop(read if return_state else finished, return_state)
        if not self.rows:
            return
        tokens = torch.tensor([row.unread for row in self.rows], device=self._logits.device)
        self._logits, self._state = self._model.step(tokens, self._state)
        self._read.scatter_(-1, tokens[:, None], True)
        self._drop([row for row in self.rows if row.finished], return_state)

    def _drop(self, rows: list[Continuation], return_state: bool) -> None:
        """Takes rows out; they get their state if it is asked for."""
        stay = [i for i, row in enumerate(self.rows) if row not in rows]
        for i, row in enumerate(self.rows):
            if return_state and row in rows:
                state = self._state.select([i])
                row.state = SequenceState(state, self._logits[i].clone(), row.tokens)
        if rows and stay:
            self._state = self._state.select(stay)
            self._logits, self._read = self._logits[stay], self._read[stay]
        self.rows = [self.rows[i] for i in stay]


@torch.no_grad()
def begin(model: Model, rows: Sequence[Continuation], return_state: bool) -> list[Batch]:
    """The batches of rows that begin anew, and of rows that go on from a state."""
    device = device_of(model)
    fresh = [row for row in rows if row.start is None]
    begun = []
    for places in batches(model.config, [row.prompt for row in fresh]):
        own = [fresh[i] for i in places]
        ids, mask = pad_left([row.prompt for row in own], device)
        future = _future(own[0], return_state)
        logits, state = model.prefill(
            ids, mask=mask, future=future, keep_inputs=return_state, last_only=True
        )
        begun.append(Batch(model, own, state, logits[:, -1]))
    together = defaultdict(list)
    for row in rows:
        if row.start is not None:
            together[row.start.model.length, len(row.prompt)].append((row, row.start))
    for group in together.values():
        for part, state in _joined([start.model.to(device) for _, start in group]):
            begun.append(_continued(model, [group[i] for i in part], state, return_state))
    return begun


def _joined(states: Sequence[ModelState]) -> list[tuple[Sequence[int], ModelState]]:
    """The states as one of all if they can be joined, else copies of each; with their indices."""
    try:
        return [(range(len(states)), ModelState.join(states))]
    except ValueError:  # at one position after prompts of different lengths, for instance
        return [([i], state.copy()) for i, state in enumerate(states)]


def _continued(
    model: Model,
    rows: Sequence[tuple[Continuation, SequenceState]],
    state: ModelState,
    return_state: bool,
) -> Batch:
    """Rows with prompts of one length after the state of all of them, which is advanced."""
    device, own = device_of(model), [row for row, _ in rows]
    if not own[0].prompt:
        known = [start.logits for _, start in rows if start.logits is not None]
        return Batch(model, own, state, torch.stack([x.to(device) for x in known]))
    ids = torch.tensor([row.prompt for row in own], device=device)
    # What was planned for a number of tokens, and keeps nothing more, goes on in its plan.
    future = _future(own[0], return_state) if state.grows else None
    keep = return_state and state.grows
    logits, state = model.prefill(ids, future=future, keep_inputs=keep, last_only=True, state=state)
    return Batch(model, own, state, logits[:, -1])


def _future(row: Continuation, return_state: bool) -> int:
    """Tokens that the model is to be fed with after the prompt: the last one for its state only."""
    return row.ending.max_new_tokens - (not return_state)
