"""`hyena generate`: continues prompts."""

import json
import math
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hyena.arguments import plural, shown
from hyena.cli.options import REPEATED
from hyena.cli.saved_model import ModelOptions, open_model, warnings_as_notes
from hyena.data.utf8 import decode_utf8
from hyena.generation import Beam, Generation, Stream, beam_search, stream
from hyena.generation.prompts import prompt_ids, room
from hyena.model import LanguageModel

POSITIONAL = "model"
_NEW_TOKENS = 128
_OF_DRAWING = (
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty"),
    *("allowed_tokens", "logit_bias", "seed"),
)
_PROMPTS = "prompt", "prompts", "prompt_file"  # of which one is given

# Bytes that are read; a device has no end. Of one prompt, those that a model may have room for: the
# longest tokens of common vocabularies are rows of 128 blanks or dashes.
_MOST, _MOST_OF_ONE, _LONGEST_TOKEN = 1 << 26, 1 << 30, 128


@dataclass
class Config(ModelOptions):
    """What to continue, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    prompt: list[str] | str = field(default="", metadata=REPEATED)
    """A text, taken as it is; empty begins a new document. May be given several times; the prompts
    run as one batch."""
    prompts: Path | None = None
    """A UTF-8 text file of at most 64 MiB with a prompt in each line, instead of prompt."""
    prompt_file: Path | None = None
    """A UTF-8 text file that is one prompt, as long as the model has room for and at most 1 GiB,
    instead of prompt; - is standard input. The newline that ends its last line is no part of it."""
    max_new_tokens: int | None = None
    """At most so many tokens are added to a prompt; none means 128, or what the model has room
    for."""
    temperature: float = 1.0
    """Logits are divided by this; 0 takes the likeliest token."""
    top_k: int | None = None
    """Keep only the k likeliest tokens."""
    top_p: float | None = None
    """Then keep the fewest likeliest tokens whose probabilities add up to p or more."""
    min_p: float | None = None
    """Keep only tokens at least min_p times as probable as the likeliest one."""
    repetition_penalty: float = 1.0
    """Above 1 makes tokens of the prompt and generated ones less likely: their logits are divided
    by it if positive, multiplied if negative."""
    allowed_tokens: list[int] | str | None = None
    """The only tokens that may be drawn: a text, such as ACGT, each of whose characters is a token,
    or ids as in [65,67]. The end of text is not among them unless its id is."""
    logit_bias: list[str] | str = field(default="", metadata=REPEATED)
    """Add a number to a token's logit: TOKEN=NUMBER, where the token is an id or a text that is one
    token, such as N=-5. May be given several times."""
    seed: int = 0
    """Seed of the choices; the prompts after the first use the following ones."""
    stop: list[str] | str = field(default_factory=list, metadata=REPEATED)
    """A text ends where this string appears. May be given several times; the first to appear
    counts."""
    stop_tokens: list[int] | int = field(default_factory=list, metadata=REPEATED)
    """A token id that ends a text, as the end of text does, or several as in [10,13]. May be given
    several times."""
    beam_width: int | None = None
    """Search for the likeliest text with so many beams, instead of drawing one."""
    length_penalty: float | None = None
    """Of beam search: the log-probability is divided by the number of tokens to this power to give
    the score; none means 1."""
    output: Literal["text", "jsonl"] = "text"
    """What to print: text, that of a single prompt as it comes; or JSON Lines, an object for each
    prompt (for each beam if there are beams) as soon as it has ended."""
    logprobs: int | None = None
    """In JSON Lines: give the log-probability of each token under the model, and those of so many
    of the likeliest tokens there; may be 0."""


def run(config: Config) -> None:
    """Prints each prompt with its continuation; after Ctrl-C with as much as there is of it."""
    _refuse_contradictions(config)
    model, tokenizer = open_model(config.model, config)
    prompts = _prompts(config, room(model.config))
    with warnings_as_notes():
        ids = prompt_ids(prompts, tokenizer, model.config.vocab_size)
    new = config.max_new_tokens
    new = _room(model, ids) if new is None else new
    common: dict[str, Any] = {
        "tokenizer": tokenizer,
        "max_new_tokens": new,
        "stop": config.stop,
        "stop_tokens": config.stop_tokens,
        "alternatives": config.logprobs or 0,
    }
    if config.beam_width is not None:
        penalty = 1.0 if config.length_penalty is None else config.length_penalty
        beams = beam_search(
            model, ids, beam_width=config.beam_width, length_penalty=penalty, **common
        )
        _print_beams(beams, prompts, config)
        return
    drawing: dict[str, Any] = {name: getattr(config, name) for name in _OF_DRAWING}
    drawing["logit_bias"] = _biases(config.logit_bias)
    with stream(model, ids, **common, **drawing) as events:
        _print_stream(events, prompts, config)


def _refuse_contradictions(config: Config) -> None:
    given = [name for name in _PROMPTS if getattr(config, name) != getattr(Config, name)]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} were both given; give one of them")
    if config.logprobs is not None and (config.output != "jsonl" or config.logprobs < 0):
        raise ValueError(
            "logprobs: expected a number of alternatives, at least 0, in JSON Lines, got "
            f"{config.logprobs} with output {config.output}; give --output jsonl too"
        )
    if config.beam_width is None:
        if config.length_penalty is not None:
            raise ValueError("length_penalty is of beam search; give beam_width too")
        return
    for name in _OF_DRAWING:
        if getattr(config, name) != getattr(Config, name):
            raise ValueError(
                f"{name} and beam_width were both given, but beam search draws nothing; leave out "
                "one of them"
            )


def _biases(given: list[str] | str) -> dict[int | str, float]:
    """By id or text of a token. Raises: ValueError on what is not TOKEN=NUMBER, or given twice."""
    found: dict[int | str, float] = {}
    texts = [given] if isinstance(given, str) else given
    for text in [] if given == Config.logit_bias else texts:
        token, _, number = text.rpartition("=")
        try:
            added = float(number)
        except ValueError:
            added = math.nan
        if not token or not math.isfinite(added):
            raise ValueError(
                f'logit_bias: expected TOKEN=NUMBER, such as A=2.5 or 65=2.5, got "{text:.80}"'
            )
        named = int(token) if token.isascii() and token.isdigit() else token
        if named in found:
            raise ValueError(f"logit_bias: token {shown(named)} was given twice")
        found[named] = added
    return found


def _prompts(config: Config, tokens: int | None) -> list[str]:
    """Those that are given, to a model with room for so many tokens; None is no limit."""
    if config.prompt_file is not None:
        most, why = _MOST_OF_ONE, ""
        if tokens is not None:
            most = min(most, max(_MOST, _LONGEST_TOKEN * tokens))
            why = f", and the model has room for {tokens:,} {plural(tokens, 'token')}"
        text = _read(config.prompt_file, "write the prompt into it", most, why)
        return [re.sub(r"\r?\n\Z", "", text)]
    if config.prompts is None:
        return [config.prompt] if isinstance(config.prompt, str) else config.prompt
    text = _read(config.prompts, "write a prompt in each line", _MOST, " of prompts")
    # Not at the other characters that end lines, such as a carriage return alone.
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _read(file: Path, advice: str, most: int, why: str) -> str:
    """The text of a file, or of standard input, of at most so many bytes."""
    if file == Path("-"):
        name, source = "standard input", sys.stdin  # None where the shell has closed it
        data = b"" if source is None else source.buffer.read(most + 1)
    else:
        name = str(file)
        with file.open("rb") as opened:
            data = opened.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{name} has more than {most >> 20} MiB{why}; cut it")
    text = decode_utf8(data, name)
    if not text:
        raise ValueError(f"{name} is empty; {advice}")
    return text


def _room(model: LanguageModel, prompts: list[list[int]]) -> int:
    """The default of max_new_tokens."""
    limit = room(model.config)
    if limit is None:
        return _NEW_TOKENS
    longest = max(map(len, prompts), default=0)
    return max(1, min(_NEW_TOKENS, limit - longest + 1))


def _print_stream(events: Stream, prompts: list[str], config: Config) -> None:
    """Text as it comes if there is one prompt, else in order as texts end; or a line of JSON for
    each prompt as soon as it has ended. After Ctrl-C what there is so far."""
    if config.output == "text" and len(prompts) == 1:
        print(prompts[0], end="", flush=True)
        printed = 0
        try:
            for event in events:
                print(event.text, end="", flush=True)
                printed += len(event.text or "")
        finally:
            events.close()
            print((events.generations[0].text or "")[printed:], flush=True)
        return
    waiting = dict(enumerate(prompts))

    def print_ended() -> None:
        generations = events.generations
        for index in list(waiting):
            if generations[index].finished:
                _print(index, waiting.pop(index), generations[index], config)
            elif config.output == "text":
                return  # those after it wait

    try:
        for event in events:
            if event.finished:
                print_ended()
    finally:
        events.close()
        print_ended()


def _print_beams(beams: list[list[Beam]], prompts: list[str], config: Config) -> None:
    """The best beam of each prompt as text, or a line of JSON for every beam."""
    for index, (prompt, found) in enumerate(zip(prompts, beams, strict=True)):
        if config.output == "text" and len(prompts) == 1:
            print(f"{prompt}{found[0].text}")
            return
        for rank, beam in enumerate(found if config.output == "jsonl" else found[:1]):
            _print(index, prompt, beam, config, rank)


def _print(
    index: int, prompt: str, found: Generation | Beam, config: Config, rank: int | None = None
) -> None:
    if config.output == "text":
        print(f"[{index + 1}] {prompt}{found.text}\n", flush=True)
        return
    names = ["text", "tokens", "finished"]
    names += [] if rank is None else ["logprob", "score"]
    names += [] if config.logprobs is None else ["logprobs"]
    names += ["alternatives"] if config.logprobs else []
    values = {name: getattr(found, name) for name in names}
    of_beam = {} if rank is None else {"rank": rank}
    print(json.dumps({"index": index, "prompt": prompt, **of_beam, **values}), flush=True)
