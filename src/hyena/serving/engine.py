"""One model for many requests, which join and leave the batch after any token.

A thread owns the model. Round by round it reads a piece of one prompt, then feeds all sequences
that grow with a token each. Pieces are in turns of the prompt that came first and of the one that
has the least left: a long prompt holds no short one up, and is not held up itself. What a sequence
is given depends on no other: in float64 texts are those of `hyena.generation.generate`, in float32
up to the rounding of products of other shapes. Nor does it on whether a prompt began with one that
was read before, whose state is kept.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from hyena.arguments import check_whole, token_ids
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.generation.continuation import Continuation, Ending
from hyena.generation.prompts import require_tokens
from hyena.generation.results import Event
from hyena.generation.sampling import check_alternatives
from hyena.model import LanguageModel
from hyena.serving.limits import LimitError, Limits
from hyena.serving.prefixes import Prefixes
from hyena.serving.reading import Reading
from hyena.serving.request import Deliver, Failure, Request, Ticket
from hyena.serving.sequences import Batch, Job, Row, draw


class Engine:
    """Serves requests from any thread with one model.

    Args:
        model: used by nobody else while the engine runs, and in evaluation mode then.
        tokenizer: for texts; without it events have none, and ``stop`` is refused.
        limits: what is taken on.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer | None = None, limits: Limits | None = None
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.limits = Limits() if limits is None else limits
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._readings: list[Reading] = []  # in the order in which they came
        self._first_in_turn = False
        self._batch = Batch(model)
        self._prefixes = Prefixes(self.limits.kept_bytes)
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._waiting)

    @property
    def growing(self) -> int:
        """Sequences that grow."""
        return len(self._batch.rows)

    def submit(self, request: Request, deliver: Deliver) -> Ticket:
        """Takes a request on.

        Args: deliver: is handed all there is of it, on the engine's thread.
        Raises: ValueError on a request that could never be served; LimitError on one for which
            there is no place now; RuntimeError after `close`.
        """
        ticket = Ticket(self._wake)
        job = self._job(request, ticket, deliver)
        with self._changed:
            if self._closed:
                raise RuntimeError("Engine.submit: the engine has been closed")
            if len(self._waiting) >= self.limits.waiting:
                raise LimitError(
                    f"all {self.limits.waiting} places to wait are taken; ask again later"
                )
            self._waiting.append(job)
            self._changed.notify()
        return ticket

    def start(self) -> None:
        """Starts the thread. Raises: RuntimeError if it was started before."""
        if self._thread is not None:
            raise RuntimeError("Engine.start: the engine was started before")
        self._thread = threading.Thread(target=self._run, name="hyena-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Takes nothing on any more, cancels what there is, and waits for the thread's end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self._end_all()

    @torch.no_grad()
    def round(self) -> bool:
        """A piece of a prompt, and a token for each sequence; what the thread does.

        Returns: whether there was anything to do.
        """
        self._drop_cancelled()
        self._admit()
        idle = not (self._readings or self._batch.rows)
        if self._readings:
            self._read(self._next())
        if self._batch.rows:
            self._grow()
        return not idle

    def _run(self) -> None:
        with evaluation_mode(cast(nn.Module, self.model)):
            while True:
                with self._changed:
                    while not (self._closed or self._waiting or self._readings or self.growing):
                        self._changed.wait()
                    if self._closed:
                        return
                self.round()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _job(self, request: Request, ticket: Ticket, deliver: Deliver) -> Job:
        """Raises ValueError on what could never be served."""
        vocabulary = self.model.config.vocab_size
        prompt = token_ids("prompt", request.prompt, vocabulary)
        require_tokens([prompt])
        new = check_whole("max_new_tokens", request.max_new_tokens, 0, None)
        check_whole("choices", request.choices, 1, None)
        check_alternatives(request.alternatives, vocabulary)
        request.sampling.check_vocabulary(vocabulary)
        ending = Ending.of(
            max(new, 1), request.stop, request.stop_tokens, self.tokenizer, vocabulary
        )
        last = request.seed + request.choices - 1
        for seed in (request.seed, last):
            check_whole("seed", seed, -(2**63), 2**63 - 1)
        self.limits.check(request, prompt, self.model)
        sequences = [
            Continuation(i, prompt, None, request.seed + i, ending) for i in range(request.choices)
        ]
        return Job(request, prompt, sequences, ticket, deliver)

    def _drop_cancelled(self) -> None:
        with self._changed:
            gone = [job for job in self._waiting if job.ticket.cancelled]
            for job in gone:
                self._waiting.remove(job)
        gone += [each.job for each in self._readings if each.job.ticket.cancelled]
        self._readings = [each for each in self._readings if not each.job.ticket.cancelled]
        gone += [job for job in self._growing_jobs() if job.ticket.cancelled]
        for job in gone:
            job.cancel()
        self._batch.drop_finished()

    def _admit(self) -> None:
        """Those that have waited longest are read, as many as there is room for."""
        with self._changed:
            while self._waiting and self._has_room_for(self._waiting[0].request):
                job = self._waiting.popleft()
                self._readings.append(Reading(self.model, job, self.limits.piece, self._prefixes))

    def _has_room_for(self, request: Request) -> bool:
        reading = [each.job.request for each in self._readings]
        # A request stays as wide as it came, whatever of its choices have ended.
        together = [each.request for each in self._growing_jobs()] + reading
        if not together:
            return True
        rows = len(self._batch.rows) + sum(each.choices for each in reading) + request.choices
        needed = self.limits.bytes_of([*together, request], self.model)
        needed += sum(self.limits.bytes_to_read(each, self.model) for each in [*reading, request])
        return rows <= self.limits.sequences and needed <= self.limits.state_bytes

    def _next(self) -> Reading:
        """In turns the prompt that came first, and the one that has the least left."""
        self._first_in_turn = not self._first_in_turn
        if self._first_in_turn:
            return self._readings[0]
        return min(self._readings, key=lambda each: each.left)

    def _growing_jobs(self) -> list[Job]:
        return list({row.job: None for row in self._batch.rows})

    def _read(self, reading: Reading) -> None:
        """The next piece; after the last one the first token of each choice."""
        job = reading.job
        try:
            reading.advance()
            if reading.left:
                return
            assert reading.state is not None
            assert reading.logits is not None
            reading.state.limit(job.request.max_new_tokens)
            rows = [Row(job, sequence) for sequence in job.sequences]
            if job.request.max_new_tokens:
                draw(rows, reading.logits.expand(len(rows), -1))
            else:
                for sequence in job.sequences:
                    sequence.finished = "length"
                    job.deliver(Event(sequence.index, None, "", None, [], "length"))
            rows = [row for row in rows if row.sequence.finished is None]
            if rows:
                self._batch.join(rows, reading.state.select([0] * len(rows)))
        except Exception as error:  # whatever it is: who asked must not wait for ever
            self._fail([job], error)
        self._readings.remove(reading)

    def _grow(self) -> None:
        """A token for each sequence."""
        jobs = self._growing_jobs()
        try:
            draw(self._batch.rows, self._batch.step())
            self._batch.drop_finished()
        except Exception as error:  # as above; the state may be in the middle of a step
            self._batch.clear()
            self._fail(jobs, error)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            growing = [each for each in job.sequences if each.finished is None]
            for sequence in growing:
                sequence.finished = "cancelled"
            if growing:
                job.deliver(Failure(error))

    def _end_all(self) -> None:
        """After the thread's end."""
        for job in [*self._waiting, *self._growing_jobs(), *(each.job for each in self._readings)]:
            job.cancel()
        self._waiting.clear()
        self._readings.clear()
        self._batch.clear()
