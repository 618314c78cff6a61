"""How much may be asked at once: tokens, places, and the memory of states."""

from collections.abc import Sequence
from dataclasses import dataclass

from hyena.arguments import check_whole, plural
from hyena.generation.prompts import check_room
from hyena.model import LanguageModel
from hyena.ops.stepping.online import BLOCK
from hyena.serving.request import Request


class LimitError(Exception):
    """The request is one that may be served, but not now: all places to wait are taken."""


@dataclass(frozen=True)
class Limits:
    """What the engine takes on. Raises: ValueError on a value below 1, but for ``kept_bytes``."""

    sequences: int = 64
    """So many grow at once; a request of n choices is n of them."""
    waiting: int = 256
    """Requests that may wait for a place."""
    prompt_tokens: int = 1 << 20
    """Of one prompt."""
    new_tokens: int = 1 << 16
    """Of one sequence."""
    state_bytes: int = 1 << 32
    """Of the states of all sequences, and of the prompts that are read. While a sequence joins or
    leaves, those of a layer are there twice."""
    kept_bytes: int = 1 << 30
    """Of the states that are kept after prompts, beside those; 0 keeps none."""
    piece: int = 512
    """Tokens of a prompt that are read between two steps of the sequences that grow. More read a
    prompt sooner, fewer hold the others up less."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            least = 0 if name == "kept_bytes" else 1
            object.__setattr__(self, name, check_whole(name, value, least, None))

    def check(self, request: Request, prompt: Sequence[int], model: LanguageModel) -> None:
        """Raises ValueError if the request could never be served."""
        known, new = len(prompt), request.max_new_tokens
        for name, count, most in (
            ("a prompt", known, self.prompt_tokens),
            ("max_new_tokens", new, self.new_tokens),
            ("choices", request.choices, self.sequences),
        ):
            if count > most:
                raise ValueError(f"{name}: expected at most {most:,}, got {count:,}; ask for less")
        check_room(model.config, known, max(new, 1))
        needed = self.bytes_of([request], model) + self.bytes_to_read(request, model)
        if needed > self.state_bytes:
            raise ValueError(
                f"a prompt of {known:,} {plural(known, 'token')} and {request.choices} × {new:,} "
                f"new take {needed >> 20:,} MiB, more than the {self.state_bytes >> 20:,} MiB for "
                "all states; shorten the prompt, or ask for fewer tokens or choices"
            )

    def bytes_of(self, requests: Sequence[Request], model: LanguageModel) -> int:
        """The most that the states of these sequences take as one batch, where each row is as wide
        as the widest, and a plan holds what is past until it is half of it."""
        if not requests:
            return 0
        rows = sum(request.choices for request in requests)
        length = max(len(request.prompt) + request.max_new_tokens for request in requests)
        future = 2 * max(request.max_new_tokens for request in requests) + BLOCK
        return rows * model.state_size(length, future) * _bytes_each(model)

    def bytes_to_read(self, request: Request, model: LanguageModel) -> int:
        """The most that the state takes while the prompt is read: with a plan for the rest of it,
        where it is read in pieces."""
        first = min(self.piece, len(request.prompt))
        future = len(request.prompt) - first + request.max_new_tokens
        return model.state_size(first, future) * _bytes_each(model)


def _bytes_each(model: LanguageModel) -> int:
    """Of a number of a state, which is float32 or wider in most layers."""
    return max(4, model.embedding.weight.element_size())
