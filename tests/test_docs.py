"""The documentation names what there is."""

import importlib
import pkgutil
import re
from pathlib import Path

import hyena
from hyena.cli.program import COMMANDS

DOCS = Path(__file__).parent.parent / "docs"


def test_the_api_reference_has_every_part_and_every_name_of_the_root() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"automodule:: (\S+)", text))
    parts = {f"hyena.{m.name}" for m in pkgutil.iter_modules(hyena.__path__) if m.ispkg}
    assert parts - {"hyena.cli"} <= sections
    assert not [name for name in sections if importlib.import_module(name).__doc__ is None]
    assert not [name for name in hyena.__all__ if f"`{name}`" not in text]


def test_the_page_on_the_command_line_has_every_command() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `hyena (\w+)", text, flags=re.MULTILINE) == list(COMMANDS)
