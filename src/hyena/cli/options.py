"""Options of a command from the fields of its dataclass, and wrong options as one clear line.

Words and files are read and checked here; jsonargparse merges them, in order, with the defaults,
and prints help and configuration.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, set_loader, set_parsing_settings

from hyena.cli.values import (
    UsageError,
    arms,
    check,
    check_options,
    hint_of,
    option_names,
    required,
    unknown,
)
from hyena.cli.yaml_reader import read_file, read_text

Config = TypeVar("Config")

REPEATED: Mapping[str, str] = {"repeated": "texts"}
"""Metadata of a field of texts, whose option may be given several times: each is one more text,
taken as it is."""

REPEATED_NUMBERS: Mapping[str, str] = {"repeated": "numbers"}
"""Metadata of a field of numbers, whose option may be given several times: each is one more number,
or several as in [10,13]."""

# The help of an option is the docstring that stands under its field.
set_parsing_settings(docstring_parse_attribute_docstrings=True)


def _load(text: str) -> Any:
    """JSON, as which files and lists are handed over; or YAML, as within bounds everywhere.

    A text such as "### " is no comment here, where it would be read as none.
    """
    try:
        return json.loads(text)
    except ValueError:
        return text if text.lstrip().startswith("#") else read_text(text)


set_loader("yaml", _load, exceptions=(ValueError,))


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
    parser = _parser(command, summary, kind, positional)
    try:
        if positional == "config" and not words:
            raise UsageError("expected a file of options first")
        read = _Words(kind, positional, words)
        if {"-h", "--help"} & {*read.flags}:
            print(parser.format_help(), end="")  # argparse prints it, but hides a full disk
            return None
        if read.flags:
            parser.parse_args([*read.words(parser), *read.flags])
        if lacking := required(kind, read.given):
            raise UsageError(f"required and not given: {', '.join(f'--{n}' for n in lacking)}")
        values = parser.instantiate(parser.parse_args(read.words(parser))).as_dict()
    except (UsageError, ArgumentError) as problem:
        message = " ".join(str(problem).split())
        raise UsageError(f"{message} (see hyena {command} --help)") from problem
    except SystemExit as end:  # --help and --print_config end the program when they have printed
        if end.code:
            raise
        return None
    del values["config"]
    return config_type(**values)


@lru_cache(maxsize=1)  # it takes longer to make than to use, and a sweep reads hundreds of cells
def _parser(
    command: str, summary: str, config_type: type, positional: str | None
) -> ArgumentParser:
    usage = f"hyena {command} [--config FILE] [--print_config] [options]"
    if positional:
        usage = usage.replace(command, f"{command} [{positional.upper()}]", 1)
    parser = ArgumentParser(
        prog=f"hyena {command}",
        usage=usage,
        description=summary[0].upper() + summary[1:] + ".",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--config", action="config", help="a YAML file of options; later ones win")
    parser.add_class_arguments(config_type)
    return parser


class _Words:
    """The words of a command line, each option checked.

    ``given`` are the names of the options that the words and the files give, ``flags`` what asks
    for help or for the configuration instead.
    """

    def __init__(self, config_type: Any, positional: str | None, words: Sequence[str]) -> None:
        self.config_type = config_type
        self.names = option_names(config_type)
        hints = get_type_hints(config_type)
        self.free_fields = {name for name, hint in hints.items() if get_origin(hint) is dict}
        self.repeated = {f.name: f.metadata.get("repeated") for f in fields(config_type)}
        self.given: set[str] = set()
        self.once: set[str] = set()
        self.flags: list[str] = []
        self.found: list[tuple[str, str]] = []  # the option, and its value for jsonargparse
        self.several: dict[str, list[Any]] = {}
        self.free: dict[str, dict[str, Any]] = {}
        for option, text in self._pairs(positional, words):
            self._take(option, text)

    def words(self, parser: ArgumentParser) -> list[str]:
        """The same for jsonargparse.

        What was given of a field of free options is put into the whole field, which comes last, so
        it wins over the files and the field's own: the parser would put one in the place of all.
        """
        found = [f"--{option}={value}" for option, value in self.found]
        said: Any = parser.parse_args(found) if self.free else None
        for field, options in self.free.items():
            whole = dict(said[field])
            for name, value in options.items():
                whole.pop(name, None)  # to come last
                whole[name] = value
            found.append(f"--{field}={json.dumps(whole)}")
        return found

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
            option, equals, text = word.partition("=")
            if word in ("-h", "--help") or option == "--print_config" or option.endswith(".help"):
                self.flags.append(word)
                continue
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
        if field in self.free_fields and dot and not inner:
            raise UsageError(f"{field}.: expected the name of an option after the dot")
        if plain.removesuffix("+") in (*self.names, "config") or (
            field in self.free_fields and dot
        ):
            return plain
        raise UsageError(unknown(name, self.names))

    def _take(self, option: str, text: str) -> None:
        if option == "config":
            self._take_file(text)
            return
        name = option.removesuffix("+")
        if option in self.once and name == option and not self.repeated.get(name):
            raise UsageError(f"{name} was given twice; leave one of them out")
        self.once.add(option)
        self.given.add(name)
        field, dot, inner = name.partition(".")
        if dot and field in self.free_fields:
            if not text:
                raise UsageError(f"{name}: expected a value after it")
            options = self.free.setdefault(field, {})
            value = _value(name, text)
            check(field, {inner: value}, hint_of(self.config_type, field))
            options.update(_dotted(inner, value))
            return
        value = self._value_of(option, text)
        self.found.append((option, value))

    def _take_file(self, text: str) -> None:
        try:
            tree = read_file(text)
        except ValueError as problem:
            raise UsageError(f"config: {problem}") from problem
        if not isinstance(tree, dict):
            got = f'got "{tree!s:.40}"' if tree is not None else "it is empty"
            raise UsageError(f'config: {text} has no options: expected lines "name: value", {got}')
        self.given.update(check_options(self.config_type, tree))
        self.found.append(("config", json.dumps(tree)))

    def _value_of(self, option: str, text: str) -> str:
        """An option's value as jsonargparse reads it, which is YAML but for texts."""
        name = option.removesuffix("+")
        hint = hint_of(self.config_type, name)
        kinds = arms(hint)
        if option != name:
            check(name, [text if str in get_args(hint) else _value(name, text)], hint)
            return text
        if Path in kinds and not text:
            raise UsageError(f'{name}: expected a path, got ""; "." is the working directory')
        if kind := self.repeated.get(name):
            self.found = [
                (o, v) for o, v in self.found if o != name
            ]  # it stands where its last did
            items = self.several.setdefault(name, [])
            items += [text] if kind == "texts" else _numbers(name, text)
            check(name, items, hint)
            return json.dumps(items)
        if str in kinds or Path in kinds:
            listed = any(get_origin(kind) is list for kind in kinds) and text[:1] == "["
            if not listed:
                check(name, None if text == "null" and type(None) in kinds else text, hint)
                return text
        if is_dataclass(hint):
            value = read_file(text) if Path(text).is_file() else _value(name, text)
            if isinstance(value, dict):
                self.given.update(check_options(hint, value, f"{name}."))
                return json.dumps(value)
        value = text if text in _choices(hint) else _value(name, text)
        check(name, value, hint)
        return text if isinstance(value, str) else json.dumps(value)


def _choices(hint: Any) -> tuple[Any, ...]:
    """The texts that a field of fixed choices may be."""
    return tuple(choice for kind in arms(hint) for choice in get_args(kind))


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
