"""Options of a command from the fields of its dataclass, and wrong options as one clear line."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from functools import lru_cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from hyena.cli.free_options import put_free, take_free

Config = TypeVar("Config")

REPEATED: Mapping[str, str] = {"repeated": "texts"}
"""Metadata of a field of texts, whose option may be given several times: each is one more text,
taken as it is."""

REPEATED_NUMBERS: Mapping[str, str] = {"repeated": "numbers"}
"""Metadata of a field of numbers, whose option may be given several times: each is one more number,
or several as in [10,13]."""

OPTIONS_OF = "options_of"
"""Metadata of a field of free options by name: the dataclass whose options they are."""

# The help of an option is the docstring that stands under its field.
set_parsing_settings(docstring_parse_attribute_docstrings=True)


class UsageError(Exception):
    """The command line or the file given to --config is wrong; the message is one line."""


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
    if positional == "config" and not words:
        raise UsageError(f"expected a file of options first (see hyena {command} --help)")
    words = _with_lists(config_type, _underscored(words, option_names(config_type)))
    try:
        words, free = take_free(config_type, words)
    except ValueError as problem:
        raise UsageError(f"{problem} (see hyena {command} --help)") from problem
    _refuse_empty_paths(config_type, positional, words)
    if positional and words and not words[0].startswith("-"):
        given = f"--{positional}={words[0]}"
        # Later ones win: a value comes after the files, and a file before the other options.
        words = [given, *words[1:]] if positional == "config" else [*words[1:], given]
    kind: Any = config_type  # mypy takes a type variable's type for unhashable
    parser = _parser(command, summary, kind, positional)
    try:
        words = put_free(parser, words, free)
        values = parser.instantiate(parser.parse_args(words)).as_dict()
    except ArgumentError as problem:
        file = _file_in(words) if str(problem).startswith("Problems parsing config") else ""
        text = str(problem).replace('in "<unicode string>", ', file)
        message = explain(text, option_names(config_type), _texts_option(config_type))
        raise UsageError(f"{message} (see hyena {command} --help)") from problem
    except UnicodeDecodeError as problem:
        raise UsageError(f"the file given to --config is not UTF-8 text: {problem}") from problem
    except SystemExit as end:  # --help and --print_config end the program when they have printed
        if end.code:
            raise
        return None
    del values["config"]
    return config_type(**values)


def _file_in(words: Sequence[str]) -> str:
    """The file that a mistake in YAML is in, if there is only one."""
    files = [word.partition("=")[2] for word in words if word.startswith("--config=")]
    files += [file for word, file in pairwise(words) if word == "--config"]
    return f'in "{files[0]}", ' if len(files) == 1 else ""


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


def _underscored(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """The words with options written as they are named: --top-k as --top_k."""
    found = []
    for word in words:
        option, equals, value = word.partition("=")
        name = option.removeprefix("--").replace("-", "_")
        found.append(f"--{name}{equals}{value}" if word[:2] == "--" and name in names else word)
    return found


def _with_lists(config_type: Any, words: Sequence[str]) -> list[str]:
    """The words with each option that may be repeated given once, as the list of its values.

    It stands where the last of them stood. The word after such an option is its value, unless it
    looks like an option.
    """
    kinds = {f.name: f.metadata.get("repeated") for f in fields(config_type)}
    repeated = {f"--{name}": kind for name, kind in kinds.items() if kind}
    found: list[str] = []
    for word in words:
        if found and found[-1] in repeated and (word[:2] != "--" or " " in word):
            found[-1] += f"={word}"
        else:
            found.append(word)
    for option, kind in repeated.items():
        places = [i for i, word in enumerate(found) if word.startswith(f"{option}=")]
        if places:
            values = [found[i].partition("=")[2] for i in places]
            items = map(_quoted, values) if kind == "texts" else filter(None, map(_inside, values))
            found[places[-1]] = f"{option}=[{', '.join(items)}]"
            found = [word for i, word in enumerate(found) if i not in places[:-1]]
    return found


def _quoted(text: str) -> str:
    """A text in YAML's double quotes."""
    plain = {c for c in map(chr, range(32, 127)) if c not in '"\\'}
    return '"' + "".join(c if c in plain else f"\\U{ord(c):08x}" for c in text) + '"'


def _inside(numbers: str) -> str:
    """What stands between the brackets of a list, or the number if there are none."""
    inside = numbers.strip()
    if inside[:1] == "[" and inside[-1:] == "]":
        return inside[1:-1].strip()
    return inside or _quoted(numbers)  # so that it is refused


def _texts_option(config_type: Any) -> str | None:
    """The first option of texts, for which a word without an option may be meant."""
    names = [f.name for f in fields(config_type) if f.metadata.get("repeated") == "texts"]
    return names[0] if names else None


def _refuse_empty_paths(config_type: Any, positional: str | None, words: Sequence[str]) -> None:
    """An empty path, such as an unset variable of the shell, would mean the working directory."""
    hints = get_type_hints(config_type)
    paths = {name for name, hint in hints.items() if Path in (hint, *get_args(hint))}
    if positional and words and not words[0]:
        words = [f"--{positional}=", *words[1:]]
    for word, following in pairwise([*words, "-"]):
        name, equals, value = word.removeprefix("--").partition("=")
        if name in paths and not (value if equals else following):
            raise UsageError(f'{name}: expected a path, got ""; "." is the working directory')


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


def explain(message: str, names: Sequence[str], texts: str | None = None) -> str:
    """One line for a message of jsonargparse, with a suggestion where a name is unknown.

    Args:
        message: the message of an ArgumentError.
        names: the dotted names of the options that there are.
        texts: the option that a word without an option may be meant for.
    """
    message = " ".join(message.split())
    pattern = r"Parser key \"([^\"]+)\": Problem with given class_path '([^']+)': (.+)"
    if match := re.fullmatch(pattern, message):  # of an item of a list, such as a row of a sweep
        return f"{match[1]}: {explain(match[3], _fields_of(match[2])).replace(' --', ' ')}"
    unknown = _unknown_name(message)
    if unknown is not None:
        return f'unknown option "{unknown}"{_suggestion(unknown, names)}'
    if match := re.fullmatch(r"unrecognized arguments: (.+?)( --.*)?", message):
        advice = f'; did you mean --{texts} "{match[1]}"?' if texts else ""
        return f'unexpected argument "{match[1]}"{advice}'
    if match := re.fullmatch(r"the following arguments are required: (.+)", message):
        return "required and not given: " + ", ".join(f"--{n.strip()}" for n in match[1].split(","))
    pattern = r'Parser key "([^"]+)": Expected an? (.+?)\. Got value: ?(.*)'
    if match := re.fullmatch(pattern, message):
        kind = _type_name(match[2])
        # On the command line everything is text; a file tells text from numbers and the like.
        quote = "; write it in quotes" if kind == "str" else ""
        return f'{match[1]}: expected {kind}, got "{match[3]}"{quote}'
    pattern = r'Parser key "([^"]+)": Does not validate against any of the Union subtypes .*?'
    if match := re.fullmatch(
        pattern + r"Errors: (.+) Given value type: .* Given value: ?(.*)", message
    ):
        item = re.search(r"- Expected an? (\S.*?)\. Got value:(.*?)(?= - Expected|$)", match[2])
        if item:  # of a list, which is one of the subtypes
            return f'{match[1]}: expected {_type_name(item[1])}, got "{item[2].strip()}"'
        kinds = re.findall(r"- Expected an? (.+?)(?= - |$)", match[2])
        if kinds:
            expected = " or ".join(_type_name(kind) for kind in kinds)
            return f'{match[1]}: expected {expected}, got "{match[3]}"'
    pattern = r'Parser key "([^"]+)": (?:Not a valid subclass of .*? Got value: (.*?) Subclass .*|'
    if match := re.fullmatch(pattern + r"Expected a dot import path string: (.*))", message):
        got = match[2] or match[3]
        return f'{match[1]}: expected a list of options, [{{name: value}}], got "{got}"'
    if match := re.fullmatch(
        r'Parser key "([^"]+)": Unable to load config \'(.*?)\' - .*', message
    ):
        return f'{match[1]}: expected options, {{name: value}}, got "{match[2]}"'
    if match := re.fullmatch(r"Unexpected config: ?(.*)", message):
        got = f'got "{match[1]:.40}"' if match[1] else "it is empty"
        return f'a file given to --config has no options: expected lines "name: value", {got}'
    return re.sub(r'^Parser key "([^"]+)": ', r"\1: ", message)


def _fields_of(class_path: str) -> list[str]:
    """The options of a dataclass by its dotted path, as jsonargparse names it."""
    module, _, name = class_path.rpartition(".")
    return option_names(getattr(import_module(module), name))


def _unknown_name(message: str) -> str | None:
    if match := re.fullmatch(r"unrecognized arguments: --?([^\s=]+).*", message):
        return match[1]
    if match := re.fullmatch(r"Group '([^']+)' does not accept option '([^']+)'", message):
        return f"{match[1]}.{match[2]}"
    if match := re.fullmatch(r"Option '([^']+)' is not accepted", message):
        return match[1]
    return None


def _suggestion(unknown: str, names: Sequence[str]) -> str:
    first, _, rest = unknown.partition(".")
    groups = {name.partition(".")[0] for name in names}
    if rest and first not in groups and (near := get_close_matches(first, groups, n=1)):
        whole = f"{near[0]}.{rest}"  # the mistake is before the first dot
        return f'; did you mean "{whole if whole in names else near[0]}"?'
    ending = [name for name in names if name.rpartition(".")[2] == unknown.rpartition(".")[2]]
    close = get_close_matches(unknown, ending, n=1, cutoff=0) if "." in unknown else []
    close = close or get_close_matches(unknown, names, n=1, cutoff=0.7)
    if not close:  # right name, wrong place: --width for --model.width
        last = {name.rpartition(".")[2]: name for name in reversed(names)}
        close = [last[n] for n in get_close_matches(unknown.rpartition(".")[2], last, n=1)]
    return f'; did you mean "{close[0]}"?' if close else ""


def _type_name(annotation: str) -> str:
    if match := re.fullmatch(r"<class '([\w.]+)'>", annotation):
        name = match[1].rpartition(".")[2]
        return {"NoneType": "null", "list": "a list in brackets"}.get(name, name)
    if match := re.fullmatch(r"typing\.Literal\[(.+)\]", annotation):
        return f"one of {match[1]}"
    return annotation.replace("typing.", "")
