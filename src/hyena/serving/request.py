"""What is asked of the engine, and what it hands out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hyena.generation.results import Event
from hyena.generation.sampling import Alternatives, Sampling


@dataclass(frozen=True)
class Request:
    """A prompt, and how it is to be continued. `hyena.generation.generate` gives the same with the
    same arguments, for ``choices`` prompts that are all this one."""

    prompt: Sequence[int]
    """Token ids, at least one."""
    max_new_tokens: int = 128
    """At most so many for each choice; 0 only reads the prompt."""
    sampling: Sampling = field(default_factory=Sampling)
    """How tokens are drawn."""
    seed: int = 0
    """Choice i draws with seed + i."""
    choices: int = 1
    """Continuations of the prompt, which is read once."""
    stop: str | Sequence[str] = ()
    """Texts that end a choice, and are no part of its text."""
    stop_tokens: int | Sequence[int] = ()
    """Ids that end a choice, as the tokenizer's end of text does."""
    alternatives: int = 0
    """So many of the likeliest tokens are listed beside each."""
    score_prompt: bool = False
    """Hand out `PromptScores` as well."""


@dataclass(frozen=True)
class PromptScores:
    """How the model expected the prompt, before the first `Event` of its request."""

    logprobs: list[float | None]
    """Natural logarithm of the probability of each token; None of the first, before which there is
    nothing."""
    alternatives: list[Alternatives]
    """The likeliest tokens at each place, as many as were asked for; none at the first."""


@dataclass(frozen=True)
class Failure:
    """The request ended by an error that is no mistake of whoever asked."""

    error: Exception


Delivery = Event | PromptScores | Failure
"""What a request is handed: an `Event` a token of each choice, whose ``index`` is the choice and
whose last one has ``finished``, unless there is a `Failure`, which ends all choices."""

Deliver = Callable[[Delivery], None]
"""Takes what there is, on the engine's thread: it must neither wait nor raise."""


class Ticket:
    """A request that the engine has taken on."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.cancelled = False
        self._wake = wake

    def cancel(self) -> None:
        """Ends it before the next token of any sequence; what is still growing is handed a last
        event, which says "cancelled". Does nothing after its end."""
        self.cancelled = True
        self._wake()
