"""Processes that do the parts of a work between them.

Each is a new interpreter that imports `hyena.data` alone, so that it begins soon, whatever the
first process has loaded, and a program that prepares text need not be one that can be imported.
Messages are pickled, through the pipes of its standard input and output. It has a session of its
own, so that Ctrl-C reaches the first process alone, and ends when its input closes.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, Any, Protocol, TypeVar

Result = TypeVar("Result")
ResultOf = TypeVar("ResultOf", covariant=True)

Progress = Callable[[int, int], None]
"""Called with the documents and the bytes of a part that are done."""

PROGRAM = "from hyena.data.workers import serve; serve()"
_EVERY = 0.1  # seconds between two messages of a process on how far it is


class Work(Protocol[ResultOf]):
    """What is done with each part; it is pickled for each process, and so are the results."""

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

    With one worker, or one part, it is this process that does them. Parts are begun in order.

    Args:
        work: what is done.
        parts: their numbers.
        workers: processes at a time, 1 or more.
        progress: called with a part's number, and what of it is done.

    Raises: what ``work`` raises; RuntimeError if a process dies.
    """
    workers = min(workers, len(parts))
    if workers <= 1:
        for part in parts:
            yield part, work(part, partial(progress, part))
        return
    with _Pool(work, workers) as pool:
        waiting = list(reversed(parts))
        for process in pool.processes:
            pool.begin(process, waiting.pop())
        left = len(parts)
        while left:
            process, part, done, answer = pool.next_answer()
            if not done:
                progress(part, *answer)
                continue
            left -= 1
            if waiting:
                pool.begin(process, waiting.pop())
            yield part, answer


class _Pool:
    """The processes, and what they answer."""

    def __init__(self, work: Work[Any], workers: int) -> None:
        self._answers: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        environment = {
            "TOKENIZERS_PARALLELISM": "false",  # there are as many processes as were asked for
            **os.environ,
            "PYTHONSAFEPATH": "1",  # no files of the working directory
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
            for _ in range(workers)
        ]
        for process in self.processes:
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()
            _send(process.stdin, work)

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()  # what it has not finished is begun again
        for process in self.processes:
            process.wait()
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()

    def begin(self, process: Any, part: int) -> None:
        """Hands a part to a process that has none."""
        _send(process.stdin, part)

    def next_answer(self) -> tuple[Any, int, bool, Any]:
        """A process, a part's number, whether it is done, and its result or what of it is done."""
        process, answer = self._answers.get()
        if answer is None:
            code = process.wait()
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            raise RuntimeError(
                f"a worker process {how}, perhaps for want of memory; the same command goes on "
                "with what is not finished, with fewer --workers (workers=) if you like"
            )
        part, done, found, error = answer
        if error is not None:
            raise error
        return process, part, done, found

    def _listen(self, process: Any) -> None:
        with process.stdout, contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                self._answers.put((process, pickle.load(process.stdout)))
        self._answers.put((process, None))


def _send(stream: IO[bytes] | None, message: object) -> None:
    assert stream is not None
    with contextlib.suppress(BrokenPipeError):  # of a process that died, which is told elsewhere
        pickle.dump(message, stream)
        stream.flush()


def serve() -> None:
    """What a process does: the parts that it is told, one after the other."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(messages,), daemon=True).start()
    work, last = messages.get(), 0.0

    def progress(documents: int, size: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            _send(answers, (part, False, (documents, size), None))

    while True:
        part = messages.get()
        result, wrong = None, None
        try:
            result = work(part, progress)
        except Exception as error:
            wrong = _sendable(error)
        _send(answers, (part, True, result, wrong))


def _hear(messages: queue.SimpleQueue[Any]) -> None:
    """Passes on what comes, and ends the process when nothing more can come."""
    try:
        while True:
            messages.put(pickle.load(sys.stdin.buffer))
    finally:
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """An error, or if it cannot be pickled its words."""
    try:
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
