"""Continuing prompts: one prefill, then a step a token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from hyena.generation.sampling import Sampling, sample
from hyena.generation.text_stream import TextStream
from hyena.model import LanguageModel


class Tokenizer(Protocol):
    """What is needed of a tokenizer; those of `hyena.data` have it."""

    @property
    def end_of_text(self) -> int: ...
    def encode(self, text: str) -> np.ndarray: ...
    def decode_bytes(self, ids: list[int]) -> bytes: ...


@dataclass
class Generation:
    """What was generated after one prompt, the prompt itself not included."""

    tokens: list[int]
    """Token ids, with those of the stop string, without an end-of-text that ended them."""
    text: str | None
    """The text, up to the stop string; None if no tokenizer was given."""
    finished: Literal["length", "stop", "end of text"]
    """Why it ended: max_new_tokens, the stop string, or the model's own end of text."""


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompts: str | Sequence[str] | Sequence[Sequence[int]],
    *,
    tokenizer: Tokenizer | None = None,
    max_new_tokens: int = 128,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop: str | None = None,
    on_text: Callable[[int, str], None] | None = None,
) -> list[Generation]:
    """Continues each prompt; prompts of different lengths run as one batch.

    Args:
        model: in evaluation mode for the duration of the call, whatever its mode before.
        prompts: a text, texts, or sequences of token ids. A text is preceded by the tokenizer's
            end of text, which begins every document of the training data, so it may be empty.
        tokenizer: needed for texts and for ``stop``; ends a sequence at its end of text.
        max_new_tokens: at most so many tokens a prompt.
        temperature, top_k, top_p: see `Sampling`.
        seed: the prompt of index i draws from a generator of its own, seeded with seed + i.
        stop: ends a sequence when it appears in the generated text; not part of the text returned.
        on_text: called with the prompt's index and each new piece of text, as it comes.

    Returns: one `Generation` a prompt, in order.
    Raises: ValueError on an empty prompt of token ids or one that holds something else, a missing
        tokenizer, a prompt too long for the model's max_length under its length policy, or options
        out of range.
    """
    sampling = Sampling(temperature, top_k, top_p)
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens: expected at least 1, got {max_new_tokens}")
    if tokenizer is None and (stop is not None or on_text is not None):
        raise ValueError("stop= and on_text= speak of text: give the tokenizer too")
    if not -(2**63) <= seed < 2**63:
        raise ValueError(f"seed: expected an integer of 64 bits, got {seed}")
    if stop == "":
        raise ValueError("stop: expected a text, got an empty one; leave it out for none")
    rows = [_prompt_ids(prompt, tokenizer) for prompt in _as_list(prompts)]
    if not rows:
        return []
    _check_lengths(model, rows, max_new_tokens)

    sequences = [_Sequence(i, seed + i, tokenizer, stop, on_text) for i in range(len(rows))]
    modes = [(module, module.training) for module in model.modules()]  # outer ones first
    model.eval()
    try:
        ids, mask = _pad_left(rows, model.embedding.weight.device)
        logits, state = model.prefill(ids, mask=mask)
        last = logits[:, -1]
        for remaining in range(max_new_tokens, 0, -1):
            chosen = [s.choose(row, sampling) for s, row in zip(sequences, last, strict=True)]
            if remaining == 1 or all(s.finished for s in sequences):
                break
            last, state = model.step(torch.tensor(chosen, device=ids.device), state)
    finally:
        for module, training in modes:
            module.train(training)
    return [sequence.result() for sequence in sequences]


class _Sequence:
    """One row of the batch while it grows."""

    def __init__(
        self,
        index: int,
        seed: int,
        tokenizer: Tokenizer | None,
        stop: str | None,
        on_text: Callable[[int, str], None] | None,
    ) -> None:
        self._index, self._on_text = index, on_text
        self._generator = torch.Generator().manual_seed(seed)
        self._end = None if tokenizer is None else tokenizer.end_of_text
        self._stream = None if tokenizer is None else TextStream(tokenizer, stop)
        self._pieces: list[str] = []
        self._tokens: list[int] = []
        self.finished: Literal["stop", "end of text"] | None = None

    def choose(self, logits: Tensor, sampling: Sampling) -> int:
        """The next token to feed; a finished sequence only keeps its place in the batch."""
        if self.finished:
            return 0
        token = sample(logits, sampling, self._generator)
        if token == self._end:
            self.finished = "end of text"
            return token
        self._tokens.append(token)
        if self._stream is not None:
            self._emit(self._stream.feed(token))
            if self._stream.stopped:
                self.finished = "stop"
        return token

    def result(self) -> Generation:
        if self._stream is not None:
            self._emit(self._stream.close())
        text = None if self._stream is None else "".join(self._pieces)
        return Generation(self._tokens, text, self.finished or "length")

    def _emit(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            if self._on_text is not None:
                self._on_text(self._index, piece)


def _as_list(
    prompts: str | Sequence[str] | Sequence[Sequence[int]],
) -> Sequence[str] | Sequence[Sequence[int]]:
    return [prompts] if isinstance(prompts, str) else prompts


def _prompt_ids(prompt: str | Sequence[int], tokenizer: Tokenizer | None) -> list[int]:
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError("a prompt of text needs tokenizer=; or give token ids")
        return [tokenizer.end_of_text, *(int(i) for i in tokenizer.encode(prompt))]
    try:
        ids = [index(i) for i in prompt]
    except TypeError as error:
        raise ValueError(
            f"a prompt is a text or a sequence of token ids, got {prompt!r}; a single prompt of "
            "ids goes in a list, such as [[1, 2, 3]]"
        ) from error
    if not ids:
        raise ValueError(
            "a prompt has no tokens; begin with the tokenizer's end_of_text, or give a text"
        )
    return ids


def _check_lengths(model: LanguageModel, rows: list[list[int]], new: int) -> None:
    longest = max(len(row) for row in rows)
    config = model.config
    limit, policy = config.max_length, config.length_policy
    is_table = config.filter.train_encoding and "hyena" in config.layer_mixers()
    extrapolates = policy == "extrapolate" and not is_table
    if longest + new - 1 <= limit or extrapolates:  # the last token is never fed
        return
    room = limit - longest + 1
    advice = "shorten the prompt" + (f" or ask for at most {room} new tokens" if room > 0 else "")
    if is_table:
        advice += f": the trained encoding of the filters is a table of {limit} positions"
    elif policy == "error":
        advice += ', or load the model with length_policy="extrapolate"'
    raise ValueError(
        f"a prompt of {longest} tokens and {new} new ones do not fit max_length {limit} under "
        f'length_policy="{policy}"; {advice}'
    )


def _pad_left(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = True
    return ids.to(device), None if bool(mask.all()) else mask.to(device)
