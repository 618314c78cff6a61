"""Processes that do the parts of a work between them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

Result = TypeVar("Result")
ResultOf = TypeVar("ResultOf", covariant=True)

Progress = Callable[[int, int], None]
"""Called with the documents and the bytes of a part that are done."""

_EVERY = 0.1  # seconds between two messages of a process on how far it is


class Work(Protocol[ResultOf]):
    """What is done with each part; it is pickled for each process, with the results."""

    def __call__(self, part: int, progress: Progress) -> ResultOf:
        """Does a part by its number."""
        ...


def each(
    work: Work[Result],
    parts: Sequence[int],
    *,
    workers: int,
    progress: Callable[[int, int, int], None],
) -> Iterator[tuple[int, Result]]:
    """Does all parts, and gives the result of each when it is there.

    With one worker, or one part, it is this process that does them, in order. Processes begin the
    parts in order, and end when this one does, however that happens.

    Args:
        work: what is done.
        parts: their numbers.
        workers: processes at a time, 1 or more.
        progress: called with a part's number, and what of it is done.

    Raises: what ``work`` raises; RuntimeError if a process dies.
    """
    if min(workers, len(parts)) <= 1:
        for part in parts:
            yield (
                part,
                work(part, lambda documents, size, part=part: progress(part, documents, size)),
            )
        return
    with _Pool(work, min(workers, len(parts))) as pool:
        waiting = list(reversed(parts))
        for _ in range(pool.size):
            pool.begin(waiting.pop())
        for part, result, done in pool.answers(len(parts)):
            if not done:
                progress(part, *result)
                continue
            if waiting:
                pool.begin(waiting.pop())
            yield part, result


class _Pool(Generic[Result]):
    """The processes, each at the other end of a connection."""

    def __init__(self, work: Work[Result], size: int) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of a process with threads may hang
        self.size = size
        self._processes: dict[Connection, Any] = {}
        self._idle: list[Connection] = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, work), daemon=True)
            process.start()
            theirs.close()
            self._processes[ours] = process
            self._idle.append(ours)

    def __enter__(self) -> _Pool[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for connection, process in self._processes.items():
            process.join()
            connection.close()

    def begin(self, part: int) -> None:
        """Hands a part to a process that has none."""
        with contextlib.suppress(BrokenPipeError):  # it died; `answers` says so
            self._idle.pop().send(part)

    def answers(self, parts: int) -> Iterator[tuple[int, Any, bool]]:
        """A part's number, and its result or what of it is done, and which of the two."""
        while parts:
            for ready in wait(list(self._processes)):
                assert isinstance(ready, Connection)
                try:
                    part, result, error, done = ready.recv()
                except (EOFError, OSError) as gone:
                    raise self._dead(ready) from gone
                if error is not None:
                    raise error
                if done:
                    parts -= 1
                    self._idle.append(ready)
                yield part, result, done

    def _dead(self, connection: Connection) -> RuntimeError:
        process = self._processes[connection]
        process.join()
        code = process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return RuntimeError(
            f"a worker process {how}, perhaps for want of memory; the same command goes on with "
            "what is not finished, with fewer --workers (workers=) if you like"
        )


def _serve(connection: Connection, work: Work[Any]) -> None:
    """What a process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process says when to end
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last = 0.0

    def progress(documents: int, size: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            connection.send((part, (documents, size), None, False))

    with contextlib.suppress(EOFError, BrokenPipeError):  # the first process has ended
        while True:
            part = connection.recv()
            try:
                answer = part, work(part, progress), None, True
            except Exception as error:
                answer = part, None, _sendable(error), True
            connection.send(answer)


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
