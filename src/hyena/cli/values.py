"""Whether a value is what the type of an option's field asks for, in one line if it is not."""

import math
import re
from collections.abc import Container, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

OPTIONS_OF = "options_of"
"""Metadata of a field of free options by name: the dataclass whose options they are."""


class UsageError(ValueError):
    """The command line or the file given to --config is wrong; the message is one line."""


def option_names(config_type: Any, prefix: str = "") -> list[str]:
    """The dotted names of all options: the fields of a dataclass and of the dataclasses inside."""
    hints = get_type_hints(config_type)
    names = []
    for field in fields(config_type):
        names.append(prefix + field.name)
        inner = field.metadata.get(OPTIONS_OF, hints[field.name])
        if is_dataclass(inner):
            names += option_names(inner, f"{prefix}{field.name}.")
    return names


def hint_of(config_type: Any, name: str) -> Any:
    """The type of an option by its dotted name."""
    first, _, rest = name.partition(".")
    hint = get_type_hints(config_type)[first]
    return hint_of(hint, rest) if rest else hint


def put(config_type: Any, given: dict[str, Any], options: dict[str, Any], prefix: str = "") -> None:
    """Checks the options that stand in a mapping, and puts them into another, where they win."""
    hints = get_type_hints(config_type)
    for key, value in given.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise UsageError(unknown(name, option_names(config_type, prefix)))
        if is_dataclass(hints[key]) and isinstance(value, dict):
            put(hints[key], value, options.setdefault(key, {}), f"{name}.")
        elif value is not None or key not in required(config_type, ()):
            check(name, value, hints[key])
            options[key] = value  # but for a null that --print_config writes for what is required


def required(config_type: Any, given: Container[str]) -> list[str]:
    """The options that have no default and are not given."""
    return [
        field.name
        for field in fields(config_type)
        if field.default is field.default_factory is MISSING and field.name not in given
    ]


def arms(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the type alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def check(name: str, value: Any, hint: Any) -> None:
    """Raises UsageError if the value of an option is none of its type's, or no finite number."""
    kinds = arms(hint)
    for kind in kinds:
        origin, inside = get_origin(kind), get_args(kind)
        if isinstance(value, list) and origin in (list, tuple):
            of_any_number = origin is list or Ellipsis in inside
            hints = inside[:1] * len(value) if of_any_number else inside
            if len(value) != len(hints):
                raise UsageError(
                    f"{name}: expected {len(hints)} values in brackets, got {len(value)}"
                )
            for item, of_item in zip(value, hints, strict=True):
                check(name, item, of_item)
            return
        if isinstance(value, dict) and origin is dict:
            for key, item in value.items():
                check(f"{name}.{key}" if inside[1] is Any else name, item, inside[1])
            return
        if isinstance(value, dict) and is_dataclass(kind):
            _check_item(name, value, kind)
            return
        if _is(value, kind):
            _check_size(name, value)
            return
    if value == "" and Path in kinds:
        raise UsageError(f'{name}: expected a path, got ""; "." is the working directory')
    got = f'"{value!s:.80}"'
    if str in kinds and value is not None:
        got += "; write it in quotes"  # a file tells text from numbers and the like
    raise UsageError(f"{name}: expected {' or '.join(map(expected, kinds))}, got {got}")


def _check_item(name: str, value: dict[str, Any], kind: Any) -> None:
    """One of a list of options, such as a row of a sweep."""
    found: dict[str, Any] = {}
    try:
        put(kind, value, found)
    except UsageError as problem:
        raise UsageError(f"{name}: {problem}") from None
    if lacking := required(kind, found):
        raise UsageError(f"{name}: required and not given: {', '.join(lacking)}")


def _is(value: Any, kind: Any) -> bool:
    if kind is Any:
        return True
    if get_origin(kind) is Literal:
        return value in get_args(kind) and type(value) in map(type, get_args(kind))
    if isinstance(value, bool):  # which Python takes for a number
        return kind is bool
    if kind is Path:
        return isinstance(value, str) and value != ""
    return isinstance(kind, type) and isinstance(value, int | float if kind is float else kind)


def _check_size(name: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name}: expected a finite number, got {value}")
    limit = 2**64 if name.endswith("seed") else 2**63
    if isinstance(value, int) and abs(value) >= limit:
        raise UsageError(f"{name}: expected a number below {limit:,}, got {value!s:.40}")
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"{name}: expected text, got a zero byte in {value!r:.80}")
    if isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):
        # such as a file's name in another encoding
        raise UsageError(f"{name}: expected UTF-8, got {value!r:.80}; write or rename it so")


def expected(kind: Any) -> str:
    """What a value of a type that is no union is, for a person."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, inside))
    if is_dataclass(kind) or origin is dict:
        return "options, {name: value}"
    if origin in (list, tuple):
        of_options = is_dataclass(inside[0]) or get_origin(inside[0]) is dict
        return "a list of options, [{name: value}]" if of_options else "a list in brackets"
    return _IN_WORDS.get(kind, getattr(kind, "__name__", ""))


_IN_WORDS = {
    NoneType: "null",
    Path: "a path",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}


def check_at_least(least: int, **values: int | None) -> None:
    """Raises ValueError if one of the options is given and less."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name}: expected at least {least}, got {value}")


def check_at_most(most: int, **values: int | None) -> None:
    """Raises ValueError if one of the options is given and more."""
    for name, value in values.items():
        if value is not None and value > most:
            raise ValueError(f"{name}: expected at most {most:,}, got {value:,}")


def unknown(name: str, names: Sequence[str]) -> str:
    """What is said of an option that there is not.

    It names the nearest option; or those of its group if there is one, or all that are in none.
    """
    near, group = _nearest(name, names), name.rpartition(".")[0]
    beside = [known for known in names if group and known.rpartition(".")[0] == group]
    beside = beside or [known for known in names if "." not in known]
    advice = f"choose from {', '.join(beside)}" if beside else "there are none"
    if near and not name.startswith(f"{near}."):
        advice = f'did you mean "{near}"?'
    return f'unknown option "{name}"; {advice}'


def _nearest(name: str, names: Sequence[str]) -> str | None:
    first, _, rest = name.partition(".")
    groups = {known.partition(".")[0] for known in names}
    if rest and first not in groups and (near := get_close_matches(first, groups, n=1)):
        whole = f"{near[0]}.{rest}"  # the mistake is before the first dot
        return whole if whole in names else near[0]
    ending = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    if "." in name and ending:
        return get_close_matches(name, ending, n=1, cutoff=0)[0]
    if close := get_close_matches(name, names, n=1, cutoff=0.7):
        return close[0]
    last = {known.rpartition(".")[2]: known for known in reversed(names)}  # --width: model.width
    close = get_close_matches(name.rpartition(".")[2], last, n=1)
    return last[close[0]] if close else None
