"""A prompt that is read piece by piece, so that nobody has to wait for all of it."""

import numpy as np
import torch
from torch import Tensor

from hyena.generation.model import device_of
from hyena.generation.prompts import room
from hyena.generation.sampling import Alternatives
from hyena.generation.state import ModelState
from hyena.model import LanguageModel
from hyena.serving.prefixes import ROOM, Prefix, Prefixes
from hyena.serving.request import PromptScores
from hyena.serving.sequences import Job, scores_of

_LOGITS = 1 << 24  # numbers that are made at once where every token of a prompt is scored


class Reading:
    """The prompt of a job on its way through the model.

    Its state is planned for the rest of the prompt and all new tokens, and keeps no inputs.

    Args:
        piece: tokens that are read at once.
        prefixes: what it may begin with, unless its tokens are scored, and what it leaves there.
    Attributes: ``state`` and ``logits`` (V,) after what has been read.
    """

    def __init__(self, model: LanguageModel, job: Job, piece: int, prefixes: Prefixes) -> None:
        self.job, self._model, self._prefixes = job, model, prefixes
        self._read, self._planned = 0, len(job.prompt) + max(job.request.max_new_tokens - 1, 0)
        self.state: ModelState | None = None
        self.logits: Tensor | None = None
        self._scored = job.request.score_prompt
        known = None if self._scored else prefixes.longest(job.prompt, self._planned)
        if known is not None:
            self.state, self.logits = known.state.copy(), known.logits
            self._read, self._planned = len(known.tokens), known.planned
        self._cuts = [cut for cut in prefixes.cuts(job.prompt) if cut > self._read]
        if self._cuts and known is None:
            limit = room(model.config)
            self._planned = min(self._planned + ROOM, limit or self._planned + ROOM)
        if self._scored:
            piece = min(piece, max(_LOGITS // model.config.vocab_size, 1))
        self._piece = piece
        self._logprobs: list[float | None] = [None]
        self._alternatives: list[Alternatives] = [[]]

    @property
    def left(self) -> int:
        """Tokens that have not been read."""
        return len(self.job.prompt) - self._read

    def advance(self) -> None:
        """Reads the next piece, if any is left; after the last one the scores are handed out."""
        prompt, start = self.job.prompt, self._read
        end = min(start + self._piece, *self._cuts[:1], len(prompt))
        if start == end:
            return
        ids = torch.tensor([prompt[start:end]], device=device_of(self._model))
        future = None
        if self.state is None:  # what later pieces leave of the plan stays
            future = self._planned - end
        logits, self.state = self._model.prefill(
            ids, state=self.state, future=future, last_only=not self._scored
        )
        self.logits, self._read = logits[0, -1], end
        if self._cuts[:1] == [end]:
            del self._cuts[0]
            state = ModelState.gather([self.state])  # without what is past
            state.limit(self._planned - end)
            tokens = np.asarray(prompt[:end], np.int64)
            self._prefixes.keep(Prefix(tokens, state, self.logits.clone(), self._planned))
        if self._scored:
            targets = prompt[start + 1 : end + 1]
            found = scores_of(logits[0, : len(targets)], targets, self.job.request.alternatives)
            self._logprobs += [logprob for logprob, _ in found]
            self._alternatives += [others for _, others in found]
            if not self.left:
                self.job.deliver(PromptScores(self._logprobs, self._alternatives))
