"""Losses by position."""

from pathlib import Path

import pytest

from hyena.plots import draw_positions


def test_curves_and_the_lengths_of_training_are_drawn(tmp_path: Path) -> None:
    curves = {"extrapolate": [(96.0, 3.5), (32.0, 4.0)], "interpolate": [(32.0, 4.2)], "none": []}
    path = draw_positions(curves, tmp_path / "new" / "x.png", marks=[64])
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.read_bytes() != draw_positions(curves, tmp_path / "y.png").read_bytes()


def test_no_point_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curves were to be drawn, but there are no points"):
        draw_positions({"a": []}, tmp_path / "x.png")
