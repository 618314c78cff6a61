"""The README stays short, its Python runs, and its figures lead to what is behind them."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
measure = runpy.run_path(str(ROOT / ".ci" / "measure_readme.py"))["measure"]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def sections(page: str) -> dict[str, str]:
    """The text below each heading of a page, up to the next one."""
    parts = re.split(r"^#+ (.+)$", page, flags=re.MULTILINE)
    return {slug(heading): text for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_it_is_short_and_light() -> None:
    measures = measure(README)
    assert measures.lines <= 150
    assert measures.numbers <= 7
    assert measures.longest <= 60


@pytest.mark.parametrize(
    ("text", "lines", "numbers", "longest"),
    [
        ("one two\nthree 4\n", 2, 25.0, 4),
        ("one\n\n- two 2.5 three\n- four\n", 4, 100 / 7, 4),
        ("a b\n```\n1 2 3\n```\nc d\n", 5, 0.0, 2),
        ("| 1,000 | b |\n\nc d e\n", 3, 12.5, 3),
    ],
)
def test_the_measures_count(text: str, lines: int, numbers: float, longest: int) -> None:
    assert measure(text) == (lines, pytest.approx(numbers), longest)


def test_the_snippets_run_in_order() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(snippets) == 3  # the operation, the layer, the model
    names: dict[str, object] = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    assert names["y"].shape == (2, 1000, 64)  # type: ignore[attr-defined]


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)", README)
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        assert (ROOT / file).exists(), link
        if anchor:
            assert anchor in sections((ROOT / file).read_text(encoding="utf-8")), link


def test_each_figure_of_the_table_stands_in_the_section_that_it_links_to() -> None:
    rows = re.findall(r"^\| (?!\|)(?!-).*\|$", README, flags=re.MULTILINE)
    assert 1 <= len(rows) <= 6
    for row in rows:
        figures = re.findall(r"\[\**([\d.,]+)%?\**\]\(([^)#]+)#([^)]+)\)", row)
        assert figures, row
        for figure, page, anchor in figures:
            section = sections((ROOT / page).read_text(encoding="utf-8"))[anchor]
            assert re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d.,]*\d)", section), figure
