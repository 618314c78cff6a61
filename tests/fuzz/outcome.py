"""What became of a hostile case: refused in one line, taken, or one of the faults."""

import contextlib
import io
import linecache
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

# What the library may raise of a user's mistake. OSError of a file, ImportError of an extra.
OURS = (TypeError, ValueError, RuntimeError, NotImplementedError, OSError, ImportError, MemoryError)
MEMORY = re.compile(r"alloc|out of memory|Storage size calculation overflowed|not enough memory")


@dataclass
class Outcome:
    """``kind`` is "taken", "refused", or a fault: "traceback", "message", "foreign", "silent"."""

    kind: str
    detail: str = ""
    where: str = ""
    """Of an exception: its type, and the innermost file and function of hyena."""


def called(call: Callable[[], Any]) -> Outcome:
    """Of a call of the library: an exception should be one of ours, with a message of ours."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            call()
    except Exception as error:
        return _of_exception(error)
    return Outcome("taken")


def _of_exception(error: BaseException) -> Outcome:
    where, raised = _place(error.__traceback__)
    detail = f"{type(error).__name__}: {error}"[:300]
    found = f"{type(error).__name__} at {where}"
    if isinstance(error, MemoryError) or MEMORY.search(str(error)):
        return Outcome("refused", detail, found)
    if not isinstance(error, OURS) or isinstance(error, RecursionError | UnicodeError):
        return Outcome("traceback", detail, found)
    if not raised and not isinstance(error, OSError):
        return Outcome("foreign", detail, found)
    if not str(error) or "\n" in str(error):
        return Outcome("message", detail, found)
    return Outcome("refused", detail, found)


def _place(trace: TracebackType | None) -> tuple[str, bool]:
    """The innermost file and function of hyena, and whether it raises the exception itself."""
    frames = traceback.extract_tb(trace)
    inside = [frame for frame in frames if "/hyena/" in frame.filename.replace("\\", "/")]
    if not inside:
        return "outside", False
    last = inside[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    name = last.filename.replace("\\", "/").rpartition("/hyena/")[2]
    return f"{name}:{last.name}", last is frames[-1] and line.startswith("raise")


def commanded(words: list[str]) -> tuple[Outcome, str]:
    """Of a command line, run in this process: one line of error, or its output."""
    from hyena.cli import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    except BaseException as error:
        where, _ = _place(error.__traceback__)
        found = f"{type(error).__name__} at {where}"
        return Outcome("traceback", f"{type(error).__name__}: {error}"[:300], found), ""
    if code == 0:
        return Outcome("taken"), out.getvalue()
    last = (err.getvalue().splitlines() or [""])[-1]
    if "Traceback" in err.getvalue() or not last.startswith("error: "):
        return Outcome("message", f"code {code}: {err.getvalue()[-300:]}", "no line of error"), ""
    return Outcome("refused", last[:300]), ""
