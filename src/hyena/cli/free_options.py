"""Options of a field that holds options by name: ``--base.task.length 512``."""

from collections.abc import Mapping, Sequence
from typing import Any, get_origin, get_type_hints

import yaml  # comes with jsonargparse
from jsonargparse import get_loader

Free = tuple[str, str, Any]
"""The field, the dotted name of an option in it, and the option's value."""


def take_free(config_type: type, words: Sequence[str]) -> tuple[list[str], list[Free]]:
    """Takes the options of dict fields out of the words, since the parser would put one in the
    place of all that a file says beside it.

    Returns: the other words; what was taken.
    Raises: ValueError, one line, if a value is missing or is not YAML.
    """
    hints = get_type_hints(config_type)
    dicts = {name for name, hint in hints.items() if get_origin(hint) is dict}
    others: list[str] = []
    taken: list[Free] = []
    left = iter(words)
    for word in left:
        option, equals, value = word.partition("=")
        field, dot, name = option.removeprefix("--").partition(".")
        if not (word.startswith("--") and dot and field in dicts):
            others.append(word)
            continue
        given = value if equals else next(left, "--")
        if not equals and given.startswith("--"):
            raise ValueError(f"{field}.{name}: expected a value after it")
        taken.append((field, name, _value(f"{field}.{name}", given)))
    return others, taken


def put_free(values: Mapping[str, Any], taken: Sequence[Free]) -> dict[str, Any]:
    """The fields' values with what was taken; later ones win."""
    found = dict(values)
    for field, name, value in taken:
        rest = {other: v for other, v in found[field].items() if other != name}
        found[field] = {**rest, name: value}
    return found


def _value(name: str, text: str) -> Any:
    try:
        return get_loader("yaml")(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ValueError(f'{name}: "{text}" is not YAML: {problem}') from error
