"""Options of a command from the fields of its dataclass, and wrong options as one clear line.

Words and files are read, checked and merged here; jsonargparse puts the defaults beside them, makes
the dataclasses, and prints help and configuration.
"""

import json
import os
from argparse import Action
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import (
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    set_loader,
    set_parsing_settings,
)

from hyena.cli.values import (
    UsageError,
    arms,
    check,
    expected,
    hint_of,
    option_names,
    put,
    required,
    unknown,
)
from hyena.cli.yaml_reader import read_file, read_text

Config = TypeVar("Config")

REPEATED: Mapping[str, bool] = {"repeated": True}
"""Metadata of a field of texts or numbers, whose option may be given several times: each is one
more text, taken as it is; or one more number, or several as in [10,13]."""

# The help of an option is the docstring that stands under its field.
set_parsing_settings(docstring_parse_attribute_docstrings=True)


def _load(text: str) -> Any:
    """JSON, as which all options are handed over at once; their texts stay as they are."""
    try:
        return json.loads(text)
    except ValueError:
        return text


set_loader("yaml", _load)


def parse(
    command: str,
    summary: str,
    config_type: type[Config],
    positional: str | tuple[str, ...] | None,
    words: Sequence[str],
) -> Config | None:
    """Reads a command's options from the words after its name and from the --config files.

    Args:
        command: the command's name, such as "train".
        summary: one line for the head of the help.
        config_type: a dataclass; nested dataclasses become dotted options.
        positional: the field that the first word sets if it is not an option, or the fields that
            the first words set, or None.
        words: the words after the command's name.

    Returns: the configuration, or None if help or the configuration was printed instead.

    Raises:
        UsageError: an option is unknown, missing or of the wrong type, or a file cannot be read.
        ValueError: the values were of the right types, but the dataclass refused them.
    """
    kind: Any = config_type  # mypy takes a type variable's type for unhashable
    places: tuple[str, ...] = (positional,) if isinstance(positional, str) else positional or ()
    try:
        if positional == "config" and not words:
            raise UsageError("expected a file of options first")
        parser = _parser(command, summary, kind, places)
        given = _Given(parser, kind, places, words)
        if {"-h", "--help"} & {*given.flags}:
            print(parser.format_help(), end="")  # argparse prints it, but hides a full disk
            return None
        if not given.flags and (lacking := required(kind, given.options)):
            raise UsageError(f"required and not given: {', '.join(f'--{n}' for n in lacking)}")
        whole = parser.parse_args([f"--config={json.dumps(given.options)}", *given.flags])
        values = parser.instantiate(whole).as_dict()
    except (UsageError, ArgumentError) as problem:
        message = " ".join(str(problem).split())
        raise UsageError(f"{message} (see hyena {command} --help)") from problem
    except SystemExit as end:  # --print_config ends the program when it has printed
        if end.code:
            raise
        return None
    del values["config"]
    return config_type(**values)


@lru_cache(maxsize=1)  # it takes longer to make than to use, and a sweep reads hundreds of cells
def _parser(
    command: str, summary: str, config_type: type, places: tuple[str, ...]
) -> ArgumentParser:
    needed = required(config_type, ())
    words = [f"--{name} {name.upper()}" for name in needed if name not in places]
    if places == ("config",):
        words = ["CONFIG"]  # which may hold all others
    else:
        first = [name.upper() if name in needed else f"[{name.upper()}]" for name in places]
        words = [*first, *words]
    parser = ArgumentParser(
        prog=f"hyena {command}",
        usage=" ".join(["hyena", command, *words, "[options]"]),
        description=summary[0].upper() + summary[1:] + ".",
        exit_on_error=False,
        allow_abbrev=False,
        formatter_class=_Help,
    )
    read = "read a YAML file of options; later ones win"
    parser.add_argument("--config", action="config", metavar="FILE", help=read)
    printing: Action = parser._option_string_actions["--print_config"]
    printing.metavar, printing.help = "", "print the resulting options as such a file, and exit"
    parser.add_class_arguments(config_type)
    return parser


class _Help(DefaultHelpFormatter):
    """The help of jsonargparse in the words of our messages, with only what `_Given` takes."""

    def add_argument(self, action: Action) -> None:
        if not action.dest.endswith(".help"):
            super().add_argument(action)

    def _format_action_invocation(self, action: Action) -> str:
        text = super()._format_action_invocation(action).replace(" | LIST_OF_PATHS_FILE | -", "")
        return text.partition(f", {action.option_strings[0]}+")[0]

    def _get_help_string(self, action: Action) -> str:
        hint = getattr(action, "_typehint", action.type)
        if action.metavar == "CONFIG":
            return "A YAML file of these options."
        if hint is None:
            return action.help or ""
        alone = [kind for kind in arms(hint) if get_origin(kind) is not list] or [hint]
        remarks = [] if action.metavar else [" or ".join(map(expected, alone))]
        text = isinstance(action.default, str) and action.default
        default = text or json.dumps(action.default)
        remarks.append("required" if action.required else f"default: {default}")
        return f"{action.help} ({', '.join(remarks)})"


class _Given:
    """What a command line and its files give: ``options``, checked, as one file would have them.

    ``flags`` are the words that ask for help or for the configuration instead.
    """

    def __init__(
        self,
        parser: ArgumentParser,
        config_type: Any,
        places: tuple[str, ...],
        words: Sequence[str],
    ) -> None:
        self.parser = parser
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
        first = list(takewhile(lambda word: not word.startswith("-"), words[: len(places)]))
        named = list(zip(places, first, strict=False))
        pairs = list(self._pairs(words[len(first) :]))
        # A file before the other options, values after all files, over which they win.
        pairs = [*named, *pairs] if places == ("config",) else [*pairs, *named]
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
            if word in ("-h", "--help") or option == "--print_config":
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
                    raise UsageError(f"{name}: expected {self._wanted(name)} after it")
            yield name, text

    def _wanted(self, name: str) -> str:
        """What a value of the option is, in words."""
        if name == "config":
            return "a file"
        plain = name.removesuffix("+")
        if plain not in self.names or plain.partition(".")[0] in self.free_fields:
            return "a value"
        kinds = [kind for kind in arms(hint_of(self.config_type, plain)) if kind is not NoneType]
        alone = [kind for kind in kinds if get_origin(kind) is not list] or kinds
        return " or ".join(map(expected, alone))

    def _known(self, name: str) -> str:
        """The option's name as it is written in the dataclass: --top-k as top_k."""
        plain = name.replace("-", "_")
        field, dot, inner = plain.partition(".")
        free = field in self.free_fields and dot
        if free and not inner:
            raise UsageError(f"{field}.: expected the name of an option after the dot")
        if free or plain.removesuffix("+") in (*self.names, "config"):
            return plain
        raise UsageError(unknown(name, self.names))

    def _take(self, option: str, text: str) -> None:
        if option == "config":
            put(self.config_type, _file(text), self.options)
            return
        name = option.removesuffix("+")
        if option in self.once and name == option and name not in self.repeated:
            raise UsageError(f"{name} was given twice; leave one of them out")
        self.once.add(option)
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
        elif name != option:
            listed = list in [
                get_origin(kind) for kind in arms(hint)
            ]  # or the check refuses a list
            item = text if str in get_args(hint) else _yaml(name, text)
            value = [*self._now(name), item] if listed else [item]
        else:
            value = _value(name, text, hint)
        for part in reversed(name.split(".")):
            value = {part: value}
        put(self.config_type, value, self.options)

    def _now(self, name: str) -> list[Any]:
        """The list to which --name+ adds an item."""
        options: Any = self.options
        for part in name.split("."):
            options = (options or {}).get(part)
        now = self.parser.get_default(name) if options is None else options
        return [now] if isinstance(now, str) else now or []


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
