"""Options of a command from the fields of its dataclass, and wrong options as one clear line."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml

from hyena.cli.help import help_of
from hyena.cli.values import (
    UsageError,
    arms,
    default_of,
    hint_of,
    hints_of,
    option_names,
    required,
    typed,
    typed_options,
    unknown,
)
from hyena.cli.yaml_reader import read_file, read_text
from hyena.files.records import from_plain

Config = TypeVar("Config")

REPEATED: Mapping[str, str] = {"repeated": "texts"}
"""Metadata of a field of texts, whose option may be given several times: each is one more text,
taken as it is."""

REPEATED_NUMBERS: Mapping[str, str] = {"repeated": "numbers"}
"""Metadata of a field of numbers, whose option may be given several times: each is one more number,
or several as in [10,13]."""


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
    try:
        if positional == "config" and not words:
            raise UsageError("expected a file of options first")
        read = _Words(config_type, positional, words)
        if {"-h", "--help"} & read.flags:
            print(help_of(command, summary, config_type, positional))
            return None
        if read.flags:
            print(yaml.safe_dump(read.tree, sort_keys=False, allow_unicode=True), end="")
            return None
        lacking = [f"--{name}" for name in required(config_type) if read.tree[name] is None]
        if lacking:
            raise UsageError(f"required and not given: {', '.join(lacking)}")
    except UsageError as problem:
        message = " ".join(str(problem).split())
        raise UsageError(f"{message} (see hyena {command} --help)") from problem
    return from_plain(config_type, read.tree)


class _Words:
    """The words of a command line, each option checked and put into its place.

    ``tree`` has the value of every option, None where a required one is not given; ``flags`` ask
    for help or for the configuration instead.
    """

    def __init__(self, config_type: Any, positional: str | None, words: Sequence[str]) -> None:
        self.config_type = config_type
        self.tree: dict[str, Any] = {}
        for field in fields(config_type):
            default = default_of(field)
            self.tree[field.name] = None if default is MISSING else default
        self.names = option_names(config_type)
        hints = hints_of(config_type)
        self.free_fields = {name for name, hint in hints.items() if get_origin(hint) is dict}
        self.repeated = {f.name: f.metadata.get("repeated") for f in fields(config_type)}
        self.once: set[str] = set()
        self.flags: set[str] = set()
        self.several: dict[str, list[Any]] = {}
        free: list[tuple[str, str, Any]] = []
        for option, text in self._pairs(positional, words):
            group, dot, inner = option.partition(".")
            if option == "config":
                self._merge(_options_in(text, config_type))
                continue
            if option in self.once and not self.repeated.get(option):
                raise UsageError(f"{option} was given twice; leave one of them out")
            self.once.add(option)
            if dot and group in self.free_fields:
                free += [(group, *pair) for pair in self._free(option, inner, text)]
                continue
            value = self._value_of(option, text)
            for part in reversed(option.split(".")):
                value = {part: value}
            self._merge(value)
        # Last, so that they win over the files and over what was given of the whole field.
        for group, name, value in free:
            self.tree[group].pop(name, None)
            self.tree[group][name] = value

    def _pairs(self, positional: str | None, words: Sequence[str]) -> list[tuple[str, str]]:
        """The options by name with their values, in order."""
        pairs: list[tuple[str, str]] = []
        last: list[tuple[str, str]] = []
        if positional and words and not words[0].startswith("-"):
            # Later ones win: a value comes after the files, and a file before the other options.
            (pairs if positional == "config" else last).append((positional, words[0]))
            words = words[1:]
        left = iter(words)
        for word in left:
            if word in ("-h", "--help", "--print_config"):
                self.flags.add(word)
                continue
            option, equals, text = word.partition("=")
            name = option[2:]
            if option[:2] != "--" or not name:
                word = " ".join([word, *takewhile(lambda other: other[:2] != "--", left)])[:80]
                texts = [name for name, kind in self.repeated.items() if kind == "texts"]
                advice = f'; did you mean --{texts[0]} "{word}"?' if texts else ""
                raise UsageError(f'unexpected argument "{word}"{advice}')
            name = self._known(name)
            if not equals:
                text = next(left, "--")
                if text[:2] == "--" and " " not in text:
                    raise UsageError(f"{name}: expected a value after it")
            pairs.append((name, text))
        return pairs + last

    def _known(self, name: str) -> str:
        """The option's name as it is written in the dataclass: --top-k as top_k."""
        plain = name.replace("-", "_")
        field, dot, inner = plain.partition(".")
        if field in self.free_fields and dot:
            if not inner:
                raise UsageError(f"{field}.: expected the name of an option after the dot")
            return plain
        if plain not in (*self.names, "config"):
            raise UsageError(unknown(name, self.names))
        return plain

    def _free(self, name: str, inner: str, text: str) -> list[tuple[str, Any]]:
        """What is said of one of a field's free options."""
        if not text:
            raise UsageError(f"{name}: expected a value after it")
        field, value = name.partition(".")[0], _value(name, text)
        typed(field, {inner: value}, hint_of(self.config_type, field))
        return _dotted(inner, value)

    def _value_of(self, name: str, text: str) -> Any:
        """An option's value, which is YAML but for texts."""
        hint = hint_of(self.config_type, name)
        kinds = arms(hint)
        value: Any = text
        if Path in kinds and not text:
            raise UsageError(f'{name}: expected a path, got ""; "." is the working directory')
        if kind := self.repeated.get(name):
            value = self.several.setdefault(name, [])
            value += [text] if kind == "texts" else _numbers(name, text)
        elif str in kinds or Path in kinds:
            listed = any(get_origin(kind) is list for kind in kinds) and text[:1] == "["
            if listed:
                value = _value(name, text)
            elif text == "null" and type(None) in kinds:
                value = None
        elif text not in [choice for kind in kinds for choice in get_args(kind)]:
            value = _value(name, text)
        if is_dataclass(hint) and isinstance(value, dict):
            return typed_options(hint, value, f"{name}.")
        return typed(name, value, hint)

    def _merge(self, options: dict[str, Any]) -> None:
        """Puts options into their places, and leaves the others of their groups as they are."""
        waiting = [(self.tree, options, self.config_type)]
        for place, values, kind in waiting:
            for name, value in values.items():
                if is_dataclass(hints_of(kind)[name]):
                    waiting.append((place[name], value, hints_of(kind)[name]))
                else:
                    place[name] = value


def _options_in(path: str, config_type: Any) -> dict[str, Any]:
    """The options in a file."""
    try:
        tree = read_file(path)
    except ValueError as problem:
        raise UsageError(f"config: {problem}") from problem
    if not isinstance(tree, dict):
        got = f'got "{tree!s:.40}"' if tree is not None else "it is empty"
        raise UsageError(f'config: {path} has no options: expected lines "name: value", {got}')
    return typed_options(config_type, tree)


def _value(name: str, text: str) -> Any:
    try:
        return read_text(text) if text else text
    except ValueError as problem:
        raise UsageError(f'{name}: "{text:.80}" {problem}') from problem


def _numbers(name: str, text: str) -> list[Any]:
    """Numbers that may stand in brackets, alone or between commas."""
    inside = text.strip()
    if inside[:1] == "[" and inside[-1:] == "]":
        return list(_value(name, inside))
    return list(_value(name, f"[{inside}]")) if inside else [text]  # so that it is refused


def _dotted(name: str, value: Any) -> list[tuple[str, Any]]:
    """An option, or each of those in a mapping."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [pair for inner, v in value.items() for pair in _dotted(f"{name}.{inner}", v)]
