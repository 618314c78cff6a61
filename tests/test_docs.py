"""The documentation names what there is."""

import fnmatch
import importlib
import pkgutil
import re
from pathlib import Path

import hyena
from hyena.cli.program import COMMANDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]


def test_the_api_reference_has_every_part_and_every_name_of_the_root() -> None:
    text = (DOCS / "api.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"automodule:: (\S+)", text))
    parts = {f"hyena.{m.name}" for m in pkgutil.iter_modules(hyena.__path__) if m.ispkg}
    assert parts - {"hyena.cli"} <= sections
    assert not [name for name in sections if importlib.import_module(name).__doc__ is None]
    assert not [name for name in hyena.__all__ if f"`{name}`" not in text]


def test_the_page_on_the_command_line_has_every_command_and_its_line() -> None:
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    row = r"^\| `hyena (\w+).*?` \| (.*?)(?:, see .*)? \|$"
    rows = dict(re.findall(row, text, flags=re.MULTILINE))
    assert list(rows) == list(COMMANDS)
    for name, said in rows.items():  # "turns text …, or goes on" where the help has "turn", "go"
        pairs = zip(said.split(), COMMANDS[name].split(), strict=True)
        assert all(one in (other, f"{other}s", f"{other}es") for one, other in pairs), name


def test_every_source_file_that_is_named_exists() -> None:
    elsewhere = {"hyena.py", "standalone_hyena.py", "src/hyena/mixers/rivals/NAME.py"}
    folders = ("src", "csrc", "tests", "benchmarks", "examples")
    files = [f"/{p.relative_to(ROOT).as_posix()}" for f in folders for p in (ROOT / f).rglob("*.*")]
    missing = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`([\w./*-]+\.(?:py|cpp|h))`", text):
            if name not in elsewhere and not fnmatch.filter(files, f"*/{name}"):
                missing.append(f"{page.name}: {name}")
    assert not missing
