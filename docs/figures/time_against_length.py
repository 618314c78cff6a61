"""Draws time_against_length.svg: one layer, forward, of Hyena and of attention.

    python docs/figures/time_against_length.py [FOLDER ...]

The figures are those of folders of `hyena bench`, by default the newest committed one. Where
several have a length, the last wins. Nothing is measured here.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent.parent / "benchmarks" / "results"
WIDTH = 256
# What is drawn: work and contender of the records, label, its offset from the last point, colour.
# The layer works in workspaces of its own; the convolution, as its callers have it, on fresh
# outputs.
# Every colour stands out from white and from black: one file serves light and dark pages.
CURVES = (
    ("operator", "block", "attention layer", (8, -12), "#e5534b"),
    ("operator", "ours_out", "Hyena layer", (-10, 8), "#3d8bd9"),
    ("gated_conv", "ours", "its gated convolution", (8, -10), "#2da44e"),
)
INK = "#7d8590"


def newest(pattern: str) -> Path:
    """The folder of the latest date among those of a pattern."""
    return max(RESULTS.glob(pattern), key=lambda folder: folder.name.rsplit("_", 1)[1])


def milliseconds(folders: list[Path], work: str, contender: str) -> dict[int, float]:
    """Median time by length, forward at batch 1 under the default allocator."""
    found = {}
    for folder in folders:
        cells = json.loads((folder / "results.json").read_text(encoding="utf-8"))["cells"]
        for record in cells.values():
            cell = record["cell"]
            kind = (cell["work"], cell["direction"], cell["allocator"], cell["width"])
            timing = record.get("times", {}).get(contender)
            if kind == (work, "forward", "default", WIDTH) and timing:
                found[cell["length"]] = 1e3 * timing["median"]
    return dict(sorted(found.items()))


def positions(length: float) -> str:
    """A power of two as it is spoken of: 64k."""
    return f"{length / 1024:g}k" if length < 2**20 else f"{length / 2**20:g}M"


def draw(folders: list[Path], file: Path) -> None:
    """Writes the drawing, the same bytes for the same figures."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"svg.hashsalt": file.stem, "font.size": 11, "font.family": "DejaVu Sans"})
    figure, axes = plt.subplots(figsize=(7.2, 4.0), layout="constrained")
    for work, contender, label, offset, colour in CURVES:
        points = milliseconds(folders, work, contender)
        axes.plot(*zip(*points.items(), strict=True), color=colour, linewidth=2.2, marker="o", ms=4)
        length, value = max(points.items())
        axes.annotate(
            f"{label}\n{value / 1e3:.2g} s at {positions(length)}",
            (length, value),
            xytext=offset,
            textcoords="offset points",
            color=colour,
        )
    ticks = [2**n for n in range(8, 21, 2)]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(200, 2**20 * 14)
    axes.set_xticks(ticks, ["256", *(positions(length) for length in ticks[1:])])
    axes.set_yticks(
        [0.1, 1, 10, 100, 1000, 10000], ["0.1 ms", "1 ms", "10 ms", "0.1 s", "1 s", "10 s"]
    )
    axes.minorticks_off()
    axes.set_xlabel("positions", color=INK)
    axes.grid(color=INK, alpha=0.25, linewidth=0.8)
    axes.tick_params(colors=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)


if __name__ == "__main__":
    given = [Path(name) for name in sys.argv[1:]]
    folders = given or [newest("convolution_*")]
    draw(folders, HERE / "time_against_length.svg")
