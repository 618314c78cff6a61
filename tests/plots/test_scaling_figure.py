"""Losses over the compute, with fitted curves."""

from pathlib import Path

import pytest

from hyena.plots import Measured, draw_scaling


@pytest.mark.parametrize("number", [1, 4])
def test_points_and_curves_of_several_families_are_drawn(tmp_path: Path, number: int) -> None:
    points = [(2e12, 1.8), (1e12, 2.0)]
    curves = {form: points[::-1] for form in ("line", "power law")}
    families = {"a": Measured(points, curves), "b": Measured(points[:1], {}), "c": Measured([], {})}
    path = draw_scaling(
        {f"panel {i}": families for i in range(number)},
        tmp_path / "new" / "x.png",
        xlabel="FLOPs",
        ylabel="bits per byte",
    )
    assert path == tmp_path / "new" / "x.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_training_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curves were to be drawn, but there are no points"):
        draw_scaling({"a": {"b": Measured([], {})}}, tmp_path / "x.png", xlabel="x", ylabel="y")
