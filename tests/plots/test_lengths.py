"""Figures over lengths."""

from pathlib import Path

import pytest

from hyena.plots import draw_lengths

PNG = b"\x89PNG\r\n\x1a\n"


def test_panels_are_drawn(tmp_path: Path) -> None:
    panels = {
        "D = 64": {"ours": [(512, 2.0), (256, 1.0)], "public": [(256, 3.0)], "none": []},
        "D = 256": {"ours": [(256, 4.0)]},
    }
    panels |= {f"D = {i}": panels["D = 256"] for i in range(3)}  # more than a row of them
    path = draw_lengths(panels, tmp_path / "new folder" / "time.png", ylabel="ms")
    assert path.read_bytes().startswith(PNG)


@pytest.mark.parametrize("panels", [{}, {"D = 64": {}}, {"D = 64": {"ours": []}}])
def test_nothing_to_draw_is_an_error(panels: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="curves were to be drawn, but there are no points"):
        draw_lengths(panels, tmp_path / "time.png", ylabel="ms")
