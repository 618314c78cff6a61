"""Tokens that an option of generation names, by their ids or by their text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hyena.arguments import several, shown
from hyena.data.tokenizer import Tokenizer

AllowedTokens = str | Sequence[int]
LogitBias = Mapping[int, float] | Mapping[str, float] | Mapping[int | str, float]


def allowed_ids(
    tokens: AllowedTokens | None, tokenizer: Tokenizer | None
) -> tuple[int, ...] | None:
    """The ids of tokens, of a text those of its characters; None if all are allowed.

    Raises: ValueError if a character is not one token, or none that the tokenizer knows, or there
        is no tokenizer for it.
    """
    if not isinstance(tokens, str):
        return None if tokens is None else tuple(several(tokens))
    return tuple(_id("allowed_tokens", character, tokenizer) for character in tokens)


def bias_of_ids(bias: LogitBias | None, tokenizer: Tokenizer | None) -> dict[int, float]:
    """What is added to the logits of tokens, by their ids.

    Raises: ValueError as `allowed_ids`, or if it is no mapping, or names a token twice.
    """
    found: dict[int, float] = {}
    if bias is not None and not isinstance(bias, Mapping):
        raise ValueError(f"logit_bias: expected a number for each token, got {shown(bias)}")
    for token, added in (bias or {}).items():
        own = _id("logit_bias", token, tokenizer) if isinstance(token, str) else token
        if own in found:
            raise ValueError(f"logit_bias: token {shown(token)} was given twice")
        found[own] = added
    return found


def _id(option: str, text: str, tokenizer: Tokenizer | None) -> int:
    if tokenizer is None:
        raise ValueError(f"{option}= speaks of text: give the tokenizer too, or ids of tokens")
    ids = tokenizer.encode(text)
    if len(ids) != 1:
        raise ValueError(
            f"{option}: expected texts of one token each, got {shown(text)} of {len(ids)}; give "
            "the ids of tokens"
        )
    if int(ids[0]) == getattr(tokenizer, "unknown", None):
        raise ValueError(
            f"{option}: the tokenizer has no token for {shown(text)}; is it in lower case? Or give "
            "the ids of tokens"
        )
    return int(ids[0])
