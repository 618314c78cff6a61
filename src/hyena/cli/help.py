"""What `hyena COMMAND --help` prints: the fields of a dataclass and their docstrings."""

import ast
import inspect
import json
import shutil
from collections.abc import Iterator
from dataclasses import is_dataclass
from itertools import pairwise
from textwrap import dedent, wrap
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hyena.cli.values import arms, defaults, expected, required

_COLUMN = 24  # where descriptions begin
_OF_ALL = (
    ("-h, --help", "show this help"),
    ("--config FILE", "read a YAML file of options; what comes later wins"),
    ("--print_config", "print all options as such a file, and do nothing else"),
)


def help_of(command: str, summary: str, config_type: Any, positional: str | None) -> str:
    """The help of a command. Args: as `hyena.cli.options.parse`."""
    needed = required(config_type, ())
    words = [f"--{name} {name.upper()}" for name in needed if name != positional]
    if positional == "config":  # a file, in which all others may be
        words = ["CONFIG"]
    elif positional:
        words.insert(0, positional.upper() if positional in needed else f"[{positional.upper()}]")
    usage = " ".join(["usage: hyena", command, *words, "[options]"])
    lines = [usage, "", f"{summary[0].upper()}{summary[1:]}.", "", "options:"]
    title = inspect.cleandoc(config_type.__doc__).partition("\n")[0]
    groups = _group(title, config_type, defaults(config_type))
    return "\n".join([*lines, *(_row(*row) for row in _OF_ALL), *groups])


def _group(title: str, config_type: Any, values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The options of a dataclass, then those of the dataclasses inside."""
    hints, texts = get_type_hints(config_type), docstrings(config_type)
    if hints:
        yield f"\n{title.rstrip('.')}:"
    if prefix:
        yield _row(f"--{prefix[:-1]} FILE", "A YAML file of these options.")
    needed = required(config_type, ())
    groups = [name for name, hint in hints.items() if is_dataclass(hint)]
    for name in [name for name in hints if name not in groups]:
        metavar, kind = _value(name, hints[name])
        default = values[name] or json.dumps(values[name])
        shown = default if isinstance(default, str) else json.dumps(default)
        remarks = [*kind, "required" if name in needed else f"default: {shown}"]
        text = f"{texts.get(name, '')} ({', '.join(remarks)})"
        yield _row(f"--{prefix}{name} {metavar}", text)
    for name in groups:
        yield from _group(texts.get(name, name), hints[name], values[name], f"{prefix}{name}.")


def _value(name: str, hint: Any) -> tuple[str, list[str]]:
    """What stands for an option's value, and what is said of it if that does not say all."""
    kinds = [kind for kind in arms(hint) if get_origin(kind) is not list] or [hint]
    if hint is bool:
        return "{true,false}", []
    if get_origin(kinds[0]) is Literal:
        choices = [*get_args(kinds[0]), *("null" for kind in kinds if kind is NoneType)]
        return f"{{{','.join(choices)}}}", []
    return name.upper(), [" or ".join(map(expected, kinds))]


def _row(option: str, text: str) -> str:
    """An option and its description, which begins on a line of its own if the option is long."""
    width = max(20, min(100, shutil.get_terminal_size().columns) - _COLUMN)
    lines = wrap(" ".join(text.split()), width, break_on_hyphens=False)
    beside = f"  {option:{_COLUMN - 2}}"
    begin = beside if len(beside) == _COLUMN else f"{beside}\n{' ' * _COLUMN}"
    return begin + f"\n{' ' * _COLUMN}".join(lines)


def docstrings(config_type: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    (tree,) = ast.parse(dedent(inspect.getsource(config_type))).body
    return {
        ast.unparse(field.target): str(ast.literal_eval(doc.value))
        for field, doc in pairwise(getattr(tree, "body", []))
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr)
    }
