"""`hyena COMMAND --help`: the fields of a command's dataclass, and the texts that explain them."""

import ast
import inspect
import json
import re
import shutil
from dataclasses import MISSING, fields, is_dataclass
from itertools import pairwise
from textwrap import dedent, fill
from typing import Any, get_args

from hyena.cli.values import default_of, expected, hints_of


def help_of(command: str, summary: str, config_type: Any, positional: str | None) -> str:
    """How a command is called, and a paragraph on each of its options."""
    first = f" [{positional.upper()}]" if positional else ""
    lines = [
        f"usage: hyena {command}{first} [--config FILE] [--print_config] [options]",
        f"\n{summary[0].upper()}{summary[1:]}.",
        "\noptions:",
        _entry("-h, --help", "show this help and do nothing else"),
        _entry("--config FILE", "a YAML file of options; later ones win"),
        _entry("--print_config", "print all options as such a file and do nothing else"),
        *_group(config_type, "--", {}),
    ]
    return "\n".join(lines)


def _group(config_type: Any, prefix: str, defaults: dict[str, Any]) -> list[str]:
    """The fields of a dataclass, and after them those of the dataclasses inside."""
    texts, hints = _texts(config_type), hints_of(config_type)
    lines, inner = [], []
    for field in fields(config_type):
        name, hint, text = prefix + field.name, hints[field.name], texts.get(field.name, "")
        default = defaults.get(field.name, default_of(field))
        if is_dataclass(hint):
            inner += [f"\n{_filled(f'{name}: {text}')}", *_group(hint, f"{name}.", default)]
            continue
        shown = default if default and isinstance(default, str) else None
        if default is not MISSING:
            shown = f"default: {shown or json.dumps(default)}"
        lines.append(_entry(name, f"{text} ({expected(hint)}, {shown or 'required'})"))
        for item in filter(is_dataclass, get_args(hint)):  # such as the rows of a sweep
            inner += [f"\nEach of {name}:", *_group(item, "", {})]
    return lines + inner


def _entry(option: str, text: str) -> str:
    head, filled = f"  {option}", _filled(text, " " * 24)
    return head.ljust(24) + filled[24:] if len(head) < 23 else f"{head}\n{filled}"


def _filled(text: str, margin: str = "") -> str:
    width = max(60, min(100, shutil.get_terminal_size().columns))
    return fill(" ".join(text.split()), width, initial_indent=margin, subsequent_indent=margin)


def _texts(config_type: Any) -> dict[str, str]:
    """What is said of each field: the text under it, or in the section Args of its class."""
    arguments = (inspect.getdoc(config_type) or "").partition("\nArgs:\n")[2].partition("\n\n")[0]
    found = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, flags=re.MULTILINE))
    definition: Any = ast.parse(dedent(inspect.getsource(config_type))).body[0]
    for field, text in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[ast.unparse(field.target)] = str(ast.literal_eval(text.value))
    return found
