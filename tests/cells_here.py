"""Cells of a sweep without processes, which take seconds to start."""

from __future__ import annotations

import io

from hyena.experiments import CellConfig, run_cell


class Here:
    """A cell that is run in this process, with what a process of its own would leave behind."""

    def __init__(self, config: CellConfig, start: object = None, *, code: int = 0) -> None:
        self.stdin, self.returncode = io.BytesIO(), code
        if not code:
            config.out.mkdir(parents=True, exist_ok=True)
            (config.out / "failed.txt").unlink(missing_ok=True)
            with open(config.out / "log.txt", "a") as log:
                try:
                    run_cell(config, say=lambda line: print(line, file=log))
                except ValueError as error:
                    print(f"error: {error}", file=log)
                    self.returncode = 1

    def poll(self) -> int:
        return self.returncode

    wait = communicate = poll
