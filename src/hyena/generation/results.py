"""What generation hands out: an event a token, the result, and where a sequence stands."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from hyena.generation.sampling import Alternatives
from hyena.generation.state import ModelState

Finished = Literal["length", "stop", "end of text", "cancelled"]
"""Why a sequence ended: max_new_tokens; a stop string or stop token; the tokenizer's end of text;
or because it was asked to."""


@dataclass(frozen=True)
class Event:
    """One more token of one sequence."""

    index: int
    """Of the prompt."""
    token: int | None
    """The token, be it an end of text or a stop token; None where a sequence was cancelled."""
    text: str
    """What has become certain of the text: it may lag behind the tokens, by a character that is not
    whole or by what may become a stop string. Empty without a tokenizer."""
    logprob: float | None
    """Natural logarithm of the token's probability under the model's own distribution, before
    anything that `Sampling` changes."""
    alternatives: Alternatives
    """The likeliest tokens under the same distribution, as many as were asked for."""
    finished: Finished | None
    """Why this was the sequence's last event; None if it goes on."""


@dataclass(frozen=True)
class SequenceState:
    """Where one sequence stands; ``state=`` of `generate` and `stream` goes on from there.

    Generation works on a copy, so that one state can be gone on from more than once.
    """

    model: ModelState
    """Of a batch of one, after all tokens of the prompt and all that were returned."""
    logits: Tensor | None = None
    """Of the token after them, (V,); without them at least one token has to be given."""
    tokens: tuple[int, ...] = ()
    """Those tokens, for the repetition penalty."""

    def __post_init__(self) -> None:
        if not isinstance(self.model, ModelState):
            raise TypeError(
                "SequenceState: expected a ModelState, as of LanguageModel.prefill or load_state, "
                f"got a {type(self.model).__name__}"
            )


@dataclass
class Generation:
    """What was generated after one prompt, the prompt itself not included."""

    tokens: list[int]
    """Token ids, with those of the stop string, without an end of text or stop token that ended
    them."""
    text: str | None
    """The text, up to the stop string; None if no tokenizer was given."""
    finished: Finished | None
    """Why it ended; None while it grows."""
    logprobs: list[float]
    """Of each token, see `Event`."""
    alternatives: list[Alternatives]
    """For each token; see `Event`."""
    state: SequenceState | None
    """If it was asked for, where the sequence stands after all of ``tokens``."""
