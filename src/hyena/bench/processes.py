"""Processes that measure what they are asked to, each under an allocator; see `hyena.bench.worker`.

Times of the convolution are taken in a process of their own, since glibc reads an allocator's
settings when a process starts; memory in a fresh one for each figure.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from hyena.bench.allocator import Allocator, environment


class Worker:
    """A process under an allocator that answers requests."""

    def __init__(self, allocator: Allocator, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hyena.bench.worker", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment(allocator),
            start_new_session=True,  # apart from the terminal: Ctrl-C is ours, and we end it
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Its answer; if it died, "failed" says so."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line:
            return dict(json.loads(line))
        code = process.wait()
        cause = f"killed by signal {-code}, perhaps for want of memory" if code < 0 else f"{code}"
        return {"failed": f"its process ended: {cause}", "ended": True}

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()


class Workers:
    """At most one worker at a time, started when it is needed."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._worker: Worker | None = None
        self._allocator: Allocator | None = None

    def ask(self, allocator: Allocator, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a worker under an allocator."""
        if self._worker is None or self._allocator != allocator:
            self.close()
            self._worker, self._allocator = Worker(allocator, self._threads), allocator
        answer = self._worker.ask(request)
        if answer.pop("ended", False):
            self.close()
        return answer

    def ask_fresh(self, allocator: Allocator, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a worker that has done nothing before, and does nothing after."""
        self.close()
        try:
            return self.ask(allocator, request)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the worker: the next request has a fresh one, and its memory is free again."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None
