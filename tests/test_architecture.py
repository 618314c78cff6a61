"""The table of imports in docs/architecture.md is that of the files, and has no way back up."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
IMPORTS = runpy.run_path(str(ROOT / "docs" / "figures" / "imports.py"))

# Of `LanguageModel.generate`, when it is called.
UPWARD = {("model", "generation")}


def table() -> dict[str, set[str]]:
    """What each package imports by the page, in the order of its rows."""
    text = PAGE.split("<!-- imports:")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.*)\|$", text, flags=re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", others)) for name, others in rows}


def test_every_package_is_in_the_table_with_what_it_imports() -> None:
    packages = {path.parent.name for path in IMPORTS["PACKAGE"].glob("*/__init__.py")}
    real = IMPORTS["graph_of_parts"](IMPORTS["graph_of_modules"]())
    expected = {
        name: {other for other in real[name] & packages if (name, other) not in UPWARD}
        for name in packages
    }
    assert table() == expected


def test_no_package_imports_one_below_it() -> None:
    above: set[str] = set()
    for name, others in table().items():
        assert others <= above, f"{name} imports {others - above}, which stand below it"
        above.add(name)


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
