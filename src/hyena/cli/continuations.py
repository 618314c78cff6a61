"""Continuations of prompts on standard output, as text or as JSON Lines."""

import json
from collections.abc import Sequence
from typing import Literal

from hyena.generation import Beam, Generation, Stream

Output = Literal["text", "jsonl"]


def print_stream(
    stream: Stream, prompts: Sequence[str], output: Output, logprobs: int | None
) -> None:
    """Prints what a stream brings; after Ctrl-C what there is so far.

    Args:
        output: text as it comes if there is one prompt, else in order as texts end; or JSON Lines,
            an object for each prompt as soon as it has ended.
        logprobs: so many alternatives a token in JSON Lines; none leaves out log-probabilities.
    """
    if output == "text" and len(prompts) == 1:
        _print_pieces(stream, prompts[0])
        return
    waiting = dict(enumerate(prompts))

    def print_ended() -> None:
        generations = stream.generations
        for index in list(waiting):
            if generations[index].finished:
                _print(index, waiting.pop(index), generations[index], output, logprobs)
            elif output == "text":
                return  # those after it wait

    try:
        for event in stream:
            if event.finished:
                print_ended()
    finally:
        stream.close()
        print_ended()


def _print_pieces(stream: Stream, prompt: str) -> None:
    print(prompt, end="", flush=True)
    printed = 0
    try:
        for event in stream:
            print(event.text, end="", flush=True)
            printed += len(event.text or "")
    finally:
        stream.close()
        print((stream.generations[0].text or "")[printed:], flush=True)


def print_beams(
    prompts: Sequence[str], beams: Sequence[Sequence[Beam]], output: Output, logprobs: int | None
) -> None:
    """Prints the best beam of each prompt as text, or a line of JSON for every beam.

    Args: as of `print_stream`.
    """
    for index, (prompt, found) in enumerate(zip(prompts, beams, strict=True)):
        if output == "text" and len(prompts) == 1:
            print(f"{prompt}{found[0].text}")
            return
        for rank, beam in enumerate(found if output == "jsonl" else found[:1]):
            _print(index, prompt, beam, output, logprobs, rank)


def _print(
    index: int,
    prompt: str,
    found: Generation | Beam,
    output: Output,
    logprobs: int | None,
    rank: int | None = None,
) -> None:
    if output == "text":
        print(f"[{index + 1}] {prompt}{found.text}\n", flush=True)
        return
    names = ["text", "tokens", "finished"]
    names += [] if rank is None else ["logprob", "score"]
    names += [] if logprobs is None else ["logprobs", "alternatives"][: 2 if logprobs else 1]
    values = {name: getattr(found, name) for name in names}
    of_beam = {} if rank is None else {"rank": rank}
    print(json.dumps({"index": index, "prompt": prompt, **of_beam, **values}), flush=True)
