"""Prompts as token ids, the room that a model has for them, and a batch of them."""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hyena.arguments import plural, shown, token_ids
from hyena.data.tokenizer import Tokenizer
from hyena.data.unknown_tokens import UnknownTokens
from hyena.generation.model import Config

Prompts = str | Sequence[str] | Sequence[Sequence[int]]


def check_tokenizer(tokenizer: Any) -> None:
    """Raises ValueError if it is something else, such as the name of one."""
    needed = ("encode", "decode", "end_of_text")  # more is not asked of one's own
    if tokenizer is not None and not all(hasattr(tokenizer, name) for name in needed):
        raise ValueError(
            f"tokenizer: expected one such as hyena.data.load_tokenizer gives, got "
            f"{shown(tokenizer)}"
        )


def prompt_ids(
    prompts: Prompts, tokenizer: Tokenizer | None, vocab_size: int, *, begin: bool = True
) -> list[list[int]]:
    """The token ids of each prompt; ``begin`` puts the tokenizer's end of text before a text.

    Raises: ValueError on something else, on a text without a tokenizer, or of letters that it does
        not know.
    Warns: UserWarning, if it knows some letters of the texts and others not.
    """
    try:
        listed: list[Any] = [prompts] if isinstance(prompts, str) else list(prompts)
    except TypeError as error:
        raise ValueError(
            f"prompts: expected a text, texts or sequences of token ids, got {shown(prompts)}"
        ) from error
    unknown = UnknownTokens()
    found = [_ids(prompt, tokenizer, vocab_size, begin, unknown) for prompt in listed]
    for note in unknown.notes():
        warnings.warn(note, UserWarning, stacklevel=3)
    return found


def _ids(
    prompt: str | Sequence[int],
    tokenizer: Tokenizer | None,
    vocab_size: int,
    begin: bool,
    unknown: UnknownTokens,
) -> list[int]:
    if isinstance(prompt, str):
        if tokenizer is None:
            raise ValueError("a prompt of text needs tokenizer=; or give token ids")
        first = [tokenizer.end_of_text] if begin else []
        ids = token_ids("prompts", [*first, *tokenizer.encode(prompt)], vocab_size)
        own, none = np.array(ids[len(first) :]), getattr(tokenizer, "unknown", None)
        if none is None or not own.size:
            return ids
        if bool((own == none).all()):
            raise ValueError(
                f"prompts: the tokenizer has no token for any letter of {shown(prompt)}; are they "
                "in lower case?"
            )
        unknown.add(shown(prompt), prompt, own, none)
        return ids
    advice = "; a single prompt of ids goes in a list, such as [[1, 2, 3]]"
    return token_ids("prompts", prompt, vocab_size, advice)


def require_tokens(prompts: Sequence[Sequence[int]]) -> None:
    """Raises ValueError if a prompt is empty."""
    if not all(prompts):
        raise ValueError(
            "a prompt has no tokens; begin with the tokenizer's end_of_text, or give a text"
        )


def room(config: Config) -> int | None:
    """The most tokens that a model can be fed one after the other; None if there is no limit."""
    unlimited = config.length_policy == "extrapolate" and not config.has_table
    return None if unlimited else config.max_length


def check_room(config: Config, known: int, new: int, *, feed_last: bool = False) -> None:
    """Raises ValueError if so many known tokens and new ones do not fit.

    Args: feed_last: the last new token is fed as well, for the state after it.
    """
    limit = room(config)
    if limit is None or known + new - (not feed_last) <= limit:
        return
    most = limit - known + (not feed_last)
    advice = "shorten the prompt" + (
        f" or ask for at most {most} new {plural(most, 'token')}" if most > 0 else ""
    )
    if config.has_table:
        advice += f": the trained encoding of positions is a table of {limit} rows"
    elif config.length_policy == "error":
        advice += (
            ', or load the model with length_policy "extrapolate" (--length_policy extrapolate)'
        )
    raise ValueError(
        f"a prompt of {known} {plural(known, 'token')} and {new} new do not fit max_length {limit} "
        f'under length_policy "{config.length_policy}"; {advice}'
    )


def batches(config: Config, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The indices of prompts that may run as one batch: all, if they may be padded."""
    together = defaultdict(list)
    for i, prompt in enumerate(prompts):
        together[len(prompt) if config.positions == "learned" else 0].append(i)
    return list(together.values())


def pad_left(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Rows of ids as one batch: ids (B, L) int64 and mask (B, L) bool, None without padding."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(row)
        mask[i, longest - len(row) :] = True
    return ids.to(device), None if bool(mask.all()) else mask.to(device)
