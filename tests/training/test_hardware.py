"""The table of accelerators, and the page that shows it."""

import re
from pathlib import Path

import pytest

from hyena.training.hardware import TABLE, find_hardware

PAGE = Path(__file__).parent.parent.parent / "docs" / "planning.md"


def test_every_figure_has_a_source_and_is_of_its_size() -> None:
    for hardware in TABLE:
        assert re.search(r"\b20\d\d\b", hardware.source), hardware.name
        assert 1e13 < (hardware.fp32 or 2e13) < hardware.bf16 < 1e16
        assert 1e10 < hardware.link < hardware.bandwidth
        assert 1e9 < hardware.memory < 1e12 < 4 * hardware.bandwidth < 1e14
    assert len({hardware.name for hardware in TABLE}) == len(TABLE)


def test_the_page_has_the_table() -> None:
    def number(value: float) -> str:
        return f"{value:,.2f}".rstrip("0").rstrip(".")

    expected = []
    for x in TABLE:
        rates = [number(x.bf16 / 1e12), "none" if x.fp32 is None else number(x.fp32 / 1e12)]
        figures = [*rates, number(x.memory / 1e9), number(x.bandwidth / 1e9)]
        figures += [number(x.link / 1e9), x.source]
        expected.append("| " + " | ".join([f"`{x.name}`", *figures]) + " |")
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:3] == "| `"]
    assert [row for row in rows if row.count("|") == 8] == expected


@pytest.mark.parametrize("name", ["H100-SXM", "h100-sxm", "H100 SXM", "h100_sxm", "h100"])
def test_case_and_hyphens_do_not_matter(name: str) -> None:
    assert find_hardware(name).name == "H100-SXM"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("H100-S", "did you mean H100-SXM?"),
        ("A10", "did you mean A100-80GB or A100-40GB?"),
        ("NVIDIA L40S", "did you mean L40S or L4?"),
        ("RTX-4080", "did you mean RTX-4090 or"),
        ("abacus", "choose from B200, H200, H100-SXM,"),
        ("", "choose from B200,"),
    ],
)
def test_an_unknown_name_gets_near_ones(name: str, advice: str) -> None:
    message = f"gpu: expected a known accelerator, got {name!r}; {advice}"
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        find_hardware(name)
    assert "\n" not in str(error.value)
