"""Options of a command from the fields of its dataclass, and wrong options as one clear line."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from hyena.cli.help import help_of
from hyena.cli.values import (
    UsageError,
    arms,
    check,
    defaults,
    hint_of,
    option_names,
    put,
    required,
    unknown,
)
from hyena.cli.yaml_reader import read_file, read_text
from hyena.files.records import from_plain

Config = TypeVar("Config")

REPEATED: Mapping[str, bool] = {"repeated": True}
"""Metadata of a field of texts or numbers, whose option may be given several times: each is one
more text, taken as it is; or one more number, or several as in [10,13]."""


def parse(
    command: str,
    summary: str,
    config_type: type[Config],
    positional: str | None,
    words: Sequence[str],
) -> Config | None:
    """Reads a command's options from the words after its name and from the --config files.

    Args:
        command: the command's name, such as "train".
        summary: one line for the head of the help.
        config_type: a dataclass; nested dataclasses become dotted options.
        positional: the field that the first word sets if it is not an option, or None.
        words: the words after the command's name.

    Returns: the configuration, or None if help or the configuration was printed instead.

    Raises:
        UsageError: an option is unknown, missing or of the wrong type, or a file cannot be read.
        ValueError: the values were of the right types, but the dataclass refused them.
    """
    kind: Any = config_type  # mypy takes a type variable's type for unhashable
    try:
        if positional == "config" and not words:
            raise UsageError("expected a file of options first")
        given = _Given(kind, positional, words)
        if not given.flags and (lacking := required(kind, given.options)):
            raise UsageError(f"required and not given: {', '.join(f'--{n}' for n in lacking)}")
    except UsageError as problem:
        message = " ".join(str(problem).split())
        raise UsageError(f"{message} (see hyena {command} --help)") from problem
    if {"-h", "--help"} & {*given.flags}:
        print(help_of(command, summary, kind, positional))
        return None
    whole = defaults(kind)
    put(kind, given.options, whole)
    if given.flags:
        print(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True), end="")
        return None
    return from_plain(config_type, whole)


class _Given:
    """What a command line and its files give: ``options``, checked, as one file would have them.

    ``flags`` are the words that ask for help or for the configuration instead.
    """

    def __init__(self, config_type: Any, positional: str | None, words: Sequence[str]) -> None:
        self.config_type = config_type
        self.names = option_names(config_type)
        hints = get_type_hints(config_type)
        self.free_fields = {name for name, hint in hints.items() if get_origin(hint) is dict}
        self.repeated = [f.name for f in fields(config_type) if f.metadata.get("repeated")]
        self.options: dict[str, Any] = {}
        self.flags: list[str] = []
        self.once: set[str] = set()
        self.several: dict[str, list[Any]] = {}
        self.free: dict[str, dict[str, Any]] = {}
        first = positional if words and not words[0].startswith("-") else None
        pairs = list(self._pairs(words[1:] if first else words))
        if first:  # a file before the other options, a value after all files, over which it wins
            pairs.insert(0 if first == "config" else len(pairs), (first, words[0]))
        for option, text in pairs:
            self._take(option, text)
        for field, free in self.free.items():  # which win over the files, and come last
            kept = {k: v for k, v in self.options.get(field, {}).items() if k not in free}
            self.options[field] = {**kept, **free}

    def _pairs(self, words: Sequence[str]) -> Iterator[tuple[str, str]]:
        """The options by name with their values."""
        left = iter(words)
        for word in left:
            option, equals, text = word.partition("=")
            if word in ("-h", "--help", "--print_config"):
                self.flags.append(word)
                continue
            name = option[2:]
            if option[:2] != "--" or not name:
                word = " ".join([word, *takewhile(lambda other: other[:2] != "--", left)])[:80]
                into = self.repeated[:1]
                advice = f'; did you mean --{into[0]} "{word}"?' if into else ""
                raise UsageError(f'unexpected argument "{word}"{advice}')
            name = self._known(name)
            if not equals:
                text = next(left, "--")
                if text[:2] == "--" and " " not in text:
                    raise UsageError(f"{name}: expected a value after it")
            yield name, text

    def _known(self, name: str) -> str:
        """The option's name as it is written in the dataclass: --top-k as top_k."""
        plain = name.replace("-", "_")
        field, dot, inner = plain.partition(".")
        free = field in self.free_fields and dot
        if free and not inner:
            raise UsageError(f"{field}.: expected the name of an option after the dot")
        if free or plain in (*self.names, "config"):
            return plain
        raise UsageError(unknown(name, self.names))

    def _take(self, name: str, text: str) -> None:
        if name == "config":
            put(self.config_type, _file(text), self.options)
            return
        if name in self.once and name not in self.repeated:
            raise UsageError(f"{name} was given twice; leave one of them out")
        self.once.add(name)
        field, dot, inner = name.partition(".")
        if dot and field in self.free_fields:
            if not text:
                raise UsageError(f"{name}: expected a value after it")
            value = _yaml(name, text)
            check(field, {inner: value}, hint_of(self.config_type, field))
            self.free.setdefault(field, {}).update(_dotted(inner, value))
            return
        hint = hint_of(self.config_type, name)
        if name in self.repeated:
            value = self.several.setdefault(name, [])
            value += [text] if str in arms(hint) else _numbers(name, text)
        else:
            value = _value(name, text, hint)
        for part in reversed(name.split(".")):
            value = {part: value}
        put(self.config_type, value, self.options)


def _value(name: str, text: str, hint: Any) -> Any:
    """An option's value, which is YAML but for texts, paths and choices."""
    kinds = arms(hint)
    listed = text[:1] == "[" and list in [get_origin(kind) for kind in kinds]
    if (str in kinds or Path in kinds) and not listed:
        return None if text == "null" and NoneType in kinds else text
    if any(text in get_args(kind) for kind in kinds):  # of a choice, such as '32'
        return text
    if is_dataclass(hint) and os.path.isfile(text):  # False of a name that is too long
        return _file(text)
    return _yaml(name, text)


def _file(path: str) -> dict[str, Any]:
    try:
        tree = read_file(path)
    except ValueError as problem:
        raise UsageError(f"config: {problem}") from problem
    if not isinstance(tree, dict):
        got = f'got "{tree!s:.40}"' if tree is not None else "it is empty"
        raise UsageError(f'config: {path} has no options: expected lines "name: value", {got}')
    return tree


def _yaml(name: str, text: str) -> Any:
    try:
        return read_text(text) if text else text
    except ValueError as problem:
        raise UsageError(f'{name}: "{text:.80}" {problem}') from problem


def _numbers(name: str, text: str) -> list[Any]:
    """Numbers that may stand in brackets, alone or between commas."""
    inside = text.strip()
    listed = inside if inside[:1] == "[" else f"[{inside}]"
    return list(_yaml(name, listed)) if inside else [text]  # so that it is refused


def _dotted(name: str, value: Any) -> list[tuple[str, Any]]:
    """An option, or each of those in a mapping."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for inner, v in value.items() for pair in _dotted(f"{name}.{inner}", v)]
