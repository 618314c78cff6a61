"""The table of imports in docs/architecture.md is that of the files, and has no way back up."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
IMPORTS = runpy.run_path(str(ROOT / "docs" / "figures" / "imports.py"))


def table() -> dict[str, set[str]]:
    """What each package imports by the page, in the order of its rows.

    The page's other tables have two columns; they are not read."""
    return {name: others for name, (_, others) in IMPORTS["table"](PAGE).items()}


def test_every_package_is_in_the_table_with_what_it_imports() -> None:
    assert table() == IMPORTS["graph_of_packages"](), "run python docs/figures/imports.py"


def test_no_package_imports_one_below_it() -> None:
    above: set[str] = set()
    for name, others in table().items():
        assert others <= above, f"{name} imports {others - above}, which stand below it"
        above.add(name)


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = IMPORTS["graph_of_modules"]()
    assert IMPORTS["circles"](modules) == []
    assert IMPORTS["circles"](IMPORTS["graph_of_parts"](modules)) == []


def test_the_table_is_written_in_order() -> None:
    page = "# x\n\n| `b` | two | |\n| `a` | one | `c` |\n\nend | `d` |\n"
    written = IMPORTS["rewritten"](page, {"a": set(), "b": {"a"}, "c": {"b", "a"}})
    rows = "| `a` | one | |\n| `b` | two | `a` |\n| `c` | | `a`, `b` |\n"
    assert written == f"# x\n\n{rows}\nend | `d` |\n"


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}, [["b", "c"]]),
    ],
)
def test_circles_are_found(graph: dict[str, set[str]], expected: list[list[str]]) -> None:
    assert IMPORTS["circles"](graph) == expected


def test_imports_of_every_form_are_found() -> None:
    file = IMPORTS["PACKAGE"] / "ops" / "fft.py"
    code = "from . import naive\nfrom ..filters import HyenaFilter\nimport hyena.data\n"
    code += "def f():\n    from hyena.model.config import ModelConfig\n"
    known = {"hyena.ops.naive", "hyena.filters", "hyena.data", "hyena.model.config"}
    assert set(IMPORTS["imported"](file, known, code)) == known
