"""Tables in Markdown, as reports of benchmarks and of experiments have them."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table of rows, the heading first."""
    heading, *others = rows
    lines = [heading, ["---"] * len(heading), *others]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
