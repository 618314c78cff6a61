"""A bar on the terminal for long work."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Report(Protocol):
    """How far the work is: the amount done, the whole amount if it is known, and the units begun
    (documents, cells) if they are not the amount."""

    def __call__(self, done: int, total: int | None, count: int | None = None) -> None: ...


@contextmanager
def bar(unit: str = "documents") -> Iterator[Report]:
    """What to report to. It shows nothing if standard error is no terminal: it would be litter."""
    if not sys.stderr.isatty():
        yield lambda done, total, count=None: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=None)

        def report(done: int, total: int | None, count: int | None = None) -> None:
            label = f"{done if count is None else count:,} {unit}"
            progress.update(task, completed=done, total=total, description=label)

        yield report
