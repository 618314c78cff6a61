"""Continuations of prompts on standard output, as text or as JSON Lines."""

import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from hyena.generation import Beam, Event, Stream

Output = Literal["text", "jsonl"]


class Printer(Protocol):
    """Prints what a stream brings."""

    def take(self, event: Event, stream: Stream) -> None:
        """Prints what the event makes ready."""

    def finish(self, stream: Stream) -> None:
        """Prints what is left once the stream has ended, or has been closed."""


def printer_of(prompts: Sequence[str], output: Output, logprobs: int | None) -> Printer:
    """What prints the continuations of the prompts.

    Args:
        output: text as it comes if there is one prompt, else in order as texts end; or JSON Lines.
        logprobs: so many alternatives a token in JSON Lines; none leaves out log-probabilities.
    """
    if output == "jsonl":
        return _Lines(prompts, logprobs)
    return _OneText(prompts[0]) if len(prompts) == 1 else _Texts(prompts)


def print_beams(
    prompts: Sequence[str],
    beams: Sequence[Sequence[Beam]],
    output: Output,
    logprobs: int | None,
) -> None:
    """Prints the best beam of each prompt as text, or a line of JSON for every beam.

    Args: as of `printer_of`.
    """
    for index, (prompt, found) in enumerate(zip(prompts, beams, strict=True)):
        if output == "jsonl":
            for rank, beam in enumerate(found):
                names = ["tokens", "text", "finished", "logprob", "score", *_of_tokens(logprobs)]
                values = {name: getattr(beam, name) for name in names}
                _print_line(index=index, prompt=prompt, rank=rank, **values)
        elif len(prompts) == 1:
            print(f"{prompt}{found[0].text}")
        else:
            _print_numbered(index, prompt, found[0].text)


class _OneText:
    """The text of a single prompt, piece by piece, after the prompt itself."""

    def __init__(self, prompt: str) -> None:
        self._before, self._printed = prompt, 0

    def take(self, event: Event, stream: Stream) -> None:
        if event.text:
            self._print(event.text)

    def finish(self, stream: Stream) -> None:
        (generation,) = stream.generations
        self._print((generation.text or "")[self._printed :], end="\n")

    def _print(self, piece: str, end: str = "") -> None:
        print(self._before + piece, end=end, flush=True)
        self._before, self._printed = "", self._printed + len(piece)


class _Texts:
    """The texts of several prompts in order, each as soon as it and those before have ended."""

    def __init__(self, prompts: Sequence[str]) -> None:
        self._prompts, self._printed = prompts, 0

    def take(self, event: Event, stream: Stream) -> None:
        if event.finished:
            self.finish(stream)

    def finish(self, stream: Stream) -> None:
        for generation in stream.generations[self._printed :]:
            if not generation.finished:
                return
            _print_numbered(self._printed, self._prompts[self._printed], generation.text)
            self._printed += 1


class _Lines:
    """An object of JSON for each prompt, as soon as it has ended."""

    def __init__(self, prompts: Sequence[str], logprobs: int | None) -> None:
        self._left, self._logprobs = dict(enumerate(prompts)), logprobs

    def take(self, event: Event, stream: Stream) -> None:
        if event.finished:
            self._print(event.index, stream)

    def finish(self, stream: Stream) -> None:
        for index in list(self._left):
            self._print(index, stream)

    def _print(self, index: int, stream: Stream) -> None:
        generation = stream.generations[index]
        names = ["text", "tokens", "finished", *_of_tokens(self._logprobs)]
        values = {name: getattr(generation, name) for name in names}
        _print_line(index=index, prompt=self._left.pop(index), **values)


def _of_tokens(logprobs: int | None) -> list[str]:
    """What is printed of each token."""
    return [] if logprobs is None else ["logprobs", "alternatives"][: 2 if logprobs else 1]


def _print_numbered(index: int, prompt: str, text: str | None) -> None:
    print(f"[{index + 1}] {prompt}{text}\n", flush=True)


def _print_line(**values: Any) -> None:
    print(json.dumps(values), flush=True)
