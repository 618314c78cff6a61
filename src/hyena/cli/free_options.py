"""Options of a field that holds options by name: ``--base.task.length 512``."""

import json
from collections.abc import Sequence
from typing import Any, get_origin, get_type_hints

import yaml  # comes with jsonargparse
from jsonargparse import ArgumentParser, get_loader

Free = tuple[str, str, Any]
"""The field, the dotted name of an option in it, and the option's value."""


def take_free(config_type: type, words: Sequence[str]) -> tuple[list[str], list[Free]]:
    """Takes the options of dict fields out of the words, since the parser would put one in the
    place of all that a file says beside it.

    Returns: the other words; what was taken.
    Raises: ValueError, one line, if a name or a value is missing or a value is not YAML.
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
        if not name:
            raise ValueError(f"{field}.: expected the name of an option after the dot")
        given = value if equals else next(left, "")
        if not given or (not equals and given.startswith("--")):
            raise ValueError(f"{field}.{name}: expected a value after it")
        taken.append((field, name.replace("-", "_"), _value(f"{field}.{name}", given)))
    return others, taken


def put_free(parser: ArgumentParser, words: Sequence[str], taken: Sequence[Free]) -> list[str]:
    """The words with what was taken in its fields, which are given whole and last.

    Whatever its place, an option so wins over the files and the field's own. Of two the later wins.
    """
    if not taken:
        return list(words)
    said = parser.parse_args([word for word in words if not word.startswith("--print_config")])
    fields: dict[str, dict[str, Any]] = {}
    for field, name, value in taken:
        whole = fields.setdefault(field, dict(said[field]))
        for dotted, inner in _dotted(name, value):
            whole.pop(dotted, None)  # to come last
            whole[dotted] = inner
    return [*words, *(f"--{field}={json.dumps(whole)}" for field, whole in fields.items())]


def _dotted(name: str, value: Any) -> list[tuple[str, Any]]:
    """An option, or each of those in a mapping."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for inner, v in value.items() for pair in _dotted(f"{name}.{inner}", v)]


def _value(name: str, text: str) -> Any:
    try:
        return get_loader("yaml")(text)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).replace('in "<unicode string>", ', "").split())
        raise ValueError(f'{name}: "{text}" is not YAML: {problem}') from error
