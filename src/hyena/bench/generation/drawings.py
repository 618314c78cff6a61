"""Time a token against the context, as a log-log drawing."""

from pathlib import Path

from hyena.bench.generation.cases import CONTENDERS
from hyena.bench.goals import Results
from hyena.plots import draw_lengths

_TITLES = {"planned": "after a prefill", "grown": "token by token", "model": "whole model"}


def draw(results: Results, out: Path) -> Path | None:
    """Draws ``time_per_token.png``, a panel for each setting and batch that has more than one
    context; nothing if there is none.

    Returns: the file. Raises: as `hyena.plots.draw_lengths`.
    """
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for result in results.values():
        row = result["row"]
        if row["kind"] not in _TITLES or "times" not in result:
            continue
        what = f"{row['preset']}, " if row["preset"] else ""
        title = f"{_TITLES[row['kind']]}, {what}batch {row['batch']}"
        curves = panels.setdefault(title, {})
        for name, its in result["times"].items():
            point = (float(row["context"]), 1e3 * its["median"])
            curves.setdefault(CONTENDERS[name], []).append(point)
    panels = {
        title: curves
        for title, curves in sorted(panels.items())
        if len({x for points in curves.values() for x, _ in points}) > 1
    }
    if not panels:
        return None
    return draw_lengths(panels, out / "time_per_token.png", ylabel="milliseconds a token")
