"""Figures with intervals over sizes."""

from pathlib import Path

import pytest

from hyena.plots import Point, draw_intervals


@pytest.mark.parametrize("logarithmic", [True, False])
def test_curves_of_several_panels_are_drawn(tmp_path: Path, logarithmic: bool) -> None:
    curve = [Point(8, 50.0, 40.0, 60.0), Point(2, 100.0, 95.0, 100.0)]
    panels = {"one": {"a": curve, "b": []}, "two": {"b": curve[:1]}}
    path = draw_intervals(
        panels,
        tmp_path / "new" / "x.png",
        xlabel="x",
        ylabel="y",
        logarithmic=logarithmic,
        top=100.0 if logarithmic else None,
    )
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curves were to be drawn, but there are no points"):
        draw_intervals(
            {"one": {"a": []}}, tmp_path / "x.png", xlabel="x", ylabel="y", logarithmic=False
        )
