"""A bar on the terminal for long work."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int, int | None], None]
"""Called with the documents (or whatever the unit is) begun, the amount done, and the whole amount
if it is known."""


@contextmanager
def bar(unit: str = "documents") -> Iterator[Report | None]:
    """What to report to; None if standard error is no terminal, where a bar would be litter."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def report(documents: int, done: int, total: int | None) -> None:
            label = f"{documents:,} {unit}"
            progress.update(task, completed=done, total=total, description=label)

        yield report
