"""Learning curves side by side."""

from pathlib import Path

import pytest

from hyena.plots import draw_learning


@pytest.mark.parametrize("number", [1, 4])
def test_runs_are_drawn_in_rows_of_panels(tmp_path: Path, number: int) -> None:
    runs = [[(1.0, 0.5), (2.0, 0.7)], [(1.0, 0.4)]]
    panels = {f"panel {i}": {"a": runs, "b": []} for i in range(number)}
    path = tmp_path / "new" / "x.png"
    assert (
        draw_learning(panels, path, xlabel="x", ylabel="y", top=1.0 if number == 1 else None)
        == path
    )
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_runs_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curves were to be drawn, but there are no points"):
        draw_learning({"a": {"b": [[]]}}, tmp_path / "x.png", xlabel="x", ylabel="y")
