"""Time a token against the context, as a log-log drawing."""

from collections.abc import Iterator
from pathlib import Path

from hyena.bench.drawings import Point, panels_of
from hyena.bench.generation.cases import CONTENDERS
from hyena.bench.goals import Results
from hyena.plots import draw_lengths

_TITLES = {"planned": "after a prefill", "grown": "token by token", "model": "whole model"}


def draw(results: Results, out: Path) -> Path | None:
    """Draws ``time_per_token.png``, a panel for each setting and batch that has more than one
    context; nothing if there is none.

    Returns: the file. Raises: as `hyena.plots.draw_lengths`.
    """
    panels = panels_of(sorted(_points(results)))
    if not panels:
        return None
    return draw_lengths(panels, out / "time_per_token.png", ylabel="milliseconds a token")


def _points(results: Results) -> Iterator[Point]:
    for result in results.values():
        row = result["row"]
        if row["kind"] in _TITLES and "times" in result:
            what = f"{row['preset']}, " if row["preset"] else ""
            panel = f"{_TITLES[row['kind']]}, {what}batch {row['batch']}"
            for name in CONTENDERS.keys() & result["times"].keys():
                median = result["times"][name]["median"]
                yield panel, CONTENDERS[name], row["context"], 1e3 * median
