"""Special tokens of a ``tokenizer.json``, put where no text can reach them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_UNWRITTEN = "\U0010ffff"  # no character, and none will be: no text in use has it


def keep_from_text(parts: dict[str, Any], end_of_text: str) -> bool:
    """Changes a ``tokenizer.json`` so that text yields no special token; whether it had to.

    The library can be told not to look for special tokens in text. It still looks for added tokens
    that are not marked as special, and the model may put together any token of its vocabulary.
    So ``end_of_text`` is marked, and what the model could put together gets a name that no text
    has. The token of unknown text stays as it is.

    Args:
        parts: the content of the file, as the library writes it. Ids stay as they are.
        end_of_text: a token that is special whether it is marked or not.
    """
    added, model = parts["added_tokens"], parts["model"]
    unmarked = [t for t in added if t["content"] == end_of_text and not t["special"]]
    for token in unmarked:
        token["special"] = True
    special = {token["content"] for token in added if token["special"]} | {end_of_text}
    names = {name: _UNWRITTEN + name for name in special.intersection(_put_together(model))}
    for token in added if names else []:
        token["content"] = names.get(token["content"], token["content"])
    if isinstance(model["vocab"], dict):
        model["vocab"] = {names.get(name, name): i for name, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(name, name), score] for name, score in model["vocab"]]
    if names and "merges" in model:
        model["merges"] = [
            [left, right]
            for left, right, product in _merges(model)
            if names.keys().isdisjoint((left, right, product))
        ]
    return bool(unmarked or names)


def _put_together(model: dict[str, Any]) -> set[str]:
    """The tokens that a model may make of text, but for that of unknown text.

    Of BPE those of several characters: it would lose a single one that it has no token for.
    """
    vocabulary = model["vocab"]
    if "merges" in model:
        made = {product for _, _, product in _merges(model)}
        if model.get("ignore_merges"):
            made.update(name for name in vocabulary if len(name) > 1)
    elif isinstance(vocabulary, dict):
        made = set(vocabulary)
    else:
        made = {name for i, (name, _) in enumerate(vocabulary) if i != model.get("unk_id")}
    return made - {model.get("unk_token")}


def _merges(model: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Each merge: left, right and the token that they make."""
    prefix = model.get("continuing_subword_prefix") or ""
    for left, right in model["merges"]:
        yield left, right, left + right[len(prefix) :]
