"""The pages of results say what the records say, and each result has its four parts."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

import hyena.experiments.paper
from hyena.bench.convolution.goals import goals as goals_of_convolution
from hyena.bench.generation.goals import goals as goals_of_generation
from hyena.bench.goals import Goal

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("results", "recall-results")
PARTS = ["Question", "Command", "Table", "What it does not say"]
# Of tables whose figures are not in a table.md: where they stand.
ELSEWHERE = {
    "The same as the public code": "tests/interop",
    "Generation in constant memory": "docs/distillation.md",
    "Where the tests have run": "the workflow",
}


def results() -> list[tuple[str, str]]:
    """The sections that are results, by heading: all that ask a question."""
    found = []
    for page in PAGES:
        parts = re.split(
            r"^## (.+)$", (DOCS / f"{page}.md").read_text(encoding="utf-8"), flags=re.M
        )
        found += list(zip(parts[1::2], parts[2::2], strict=True))
    return [(heading, text) for heading, text in found if "**Question.**" in text]


def numbers(text: str) -> list[float]:
    """The numbers of a text; 14,684 is one."""
    found = re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e[+-]\d+)?", text)
    return [float(number.replace(",", "")) for number in found]


RESULTS = results()
# What the package knows of the paper's tables: figures in square brackets are the paper's.
PAPER = numbers(Path(hyena.experiments.paper.__file__).read_text(encoding="utf-8"))


def cells(text: str) -> list[str]:
    """The figures of a section's tables: all cells but those of the heads and the first column."""
    found = []
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        for row in table.splitlines()[2:]:
            found += [cell.strip() for cell in row.strip("|").split("|")[1:]]
    return found


def agree(figure: str, source: list[float]) -> bool:
    """Whether a figure is one of the source's numbers, rounded to the figure's last digit."""
    value = float(figure.replace(",", ""))
    digits, _, power = figure.replace(",", "").partition("e")
    unit = 10.0 ** -len(digits.partition(".")[2])
    if "." not in digits and value >= 1000:  # 1,410 of 1409.5, 9,360 of 9.36e+03
        unit = 10.0 ** (len(digits) - len(digits.rstrip("0")))
    unit *= 10.0 ** int(power or 0)
    return any(abs(value - number) <= 0.5001 * unit for number in source)


def test_there_are_results() -> None:
    assert len(RESULTS) > 15


@pytest.mark.parametrize(("heading", "text"), RESULTS, ids=[heading for heading, _ in RESULTS])
def test_a_result_has_its_four_parts_in_order(heading: str, text: str) -> None:
    found = [part for part in re.findall(r"\*\*([^*]+)\.\*\*", text) if part in PARTS]
    assert found == PARTS


@pytest.mark.parametrize(("heading", "text"), RESULTS, ids=[heading for heading, _ in RESULTS])
def test_the_figures_of_a_table_are_those_of_the_records(heading: str, text: str) -> None:
    files = [DOCS / name for name in re.findall(r"\]\((\.\./benchmarks/results/[^)]+\.md)\)", text)]
    assert files or heading in ELSEWHERE or not cells(text)
    if not files:
        return
    source = [number for file in files for number in numbers(file.read_text(encoding="utf-8"))]
    for cell in cells(text):
        for bracket, figure in re.findall(r"(\[?)(\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)", cell):
            assert agree(figure, PAPER if bracket else source), f"{figure} in “{cell}”"


DRAWING = runpy.run_path(str(DOCS / "figures" / "time_against_length.py"))


@pytest.mark.parametrize(
    ("pattern", "field", "goals"),
    [
        ("convolution_*", "cells", goals_of_convolution),
        ("generation_*", "rows", goals_of_generation),
    ],
)
def test_the_goals_that_a_page_counts_are_read_off_the_newest_record(
    pattern: str, field: str, goals: Callable[[], list[Goal]]
) -> None:
    folder = DRAWING["newest"](pattern)
    record = json.loads((folder / "results.json").read_text(encoding="utf-8"))[field]
    met = [goal.record(record)["met"] for goal in goals()]
    sentence = f"Of {len(met)} goals set beforehand {met.count(True)} were met"
    if None in met:
        sentence += f" and {met.count(None)} not measured"
    page = " ".join((DOCS / "results.md").read_text(encoding="utf-8").split())
    assert sentence in page
    assert f"results/{folder.name}/table.md" in page


def test_the_drawing_has_the_newest_times_of_fresh_outputs_and_of_the_layer_in_its_workspaces() -> (
    None
):
    drawn = (DOCS / "figures" / "time_against_length.svg").read_text(encoding="utf-8")
    series = {(work, name): label for work, name, label, *_ in DRAWING["CURVES"]}
    assert set(series) == {("operator", "block"), ("operator", "ours_out"), ("gated_conv", "ours")}
    folders = [DRAWING["newest"]("convolution_*")]
    for (work, name), label in series.items():
        length, value = max(DRAWING["milliseconds"](folders, work, name).items())
        last = f"{value / 1e3:.2g} s at {DRAWING['positions'](length)}"
        found = re.findall(r"<!-- (.+?) -->", drawn)  # the text of what is drawn as outlines
        assert found[found.index(label) + 1] == last, (
            "run python docs/figures/time_against_length.py"
        )


@pytest.mark.parametrize("page", PAGES)
def test_links_to_records_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((\.\./[^)#]+)\)", (DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert links
    assert not [link for link in links if not (DOCS / link).exists()]


@pytest.mark.parametrize(
    ("figure", "source", "expected"),
    [
        ("1.650", [1.6501], True),
        ("1.650", [1.6515], False),
        ("661", [660.9], True),
        ("1,410", [1409.5], True),
        ("14,684", [14684.4], True),
        ("14,684", [14694.0], False),
        ("16", [16.5], True),
        ("95.9", [95.8, 96.0], False),
    ],
)
def test_agreement_is_to_the_last_digit(figure: str, source: list[float], expected: bool) -> None:
    assert agree(figure, source) is expected
