"""What became of a hostile case: refused in one line, taken, or one of the faults (see fuzz.py)."""

import contextlib
import io
import linecache
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch

# What the library may raise of a user's mistake. OSError of a file, ImportError of an extra.
OURS = (TypeError, ValueError, RuntimeError, NotImplementedError, OSError, ImportError, MemoryError)
MEMORY = re.compile(r"alloc|out of memory|Storage size calculation overflowed|not enough memory")


EXPECTED = re.compile(r"\b(expected|expects|must be|should be|argument)\b")


@dataclass
class Outcome:
    """``kind``: one of those that fuzz.py lists."""

    kind: str
    detail: str = ""
    where: str = ""
    """Of an exception: its type, and the innermost file and function of hyena."""


def called(call: Callable[[], Any], given: Mapping[str, Any] | None = None) -> Outcome:
    """Of a call of the library: an exception should be one of ours, with a message of ours.

    ``given`` are the hostile arguments by their names.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            call()
    except Exception as error:
        return _of_exception(error, given or {})
    return Outcome("taken")


def _of_exception(error: BaseException, given: Mapping[str, Any]) -> Outcome:
    where, depth, raised = _place(error.__traceback__)
    detail = f"{type(error).__name__}: {error}"[:300]
    found = f"{type(error).__name__} at {where}"
    if isinstance(error, MemoryError) or MEMORY.search(str(error)):
        return Outcome("refused", detail, found)
    if not isinstance(error, OURS) or isinstance(error, RecursionError | UnicodeError):
        return Outcome("traceback", detail, found)
    if not raised and not isinstance(error, OSError):
        passed_on = _of_devices(error, given) or (
            isinstance(error, TypeError | ValueError) and _shows(str(error), given, depth)
        )
        return Outcome("outside" if passed_on else "foreign", detail, found)
    if not str(error) or "\n" in str(error):
        return Outcome("message", detail, found)
    return Outcome("refused", detail, found)


def _of_devices(error: BaseException, given: Mapping[str, Any]) -> bool:
    """Whether PyTorch says that a hostile tensor is on another device than what it meets, or that a
    text names none."""
    devices = {x.device.type for x in given.values() if isinstance(x, torch.Tensor)}
    message = str(error)
    if isinstance(given.get("device"), str) and "device string: " in message:
        return True
    return (
        isinstance(error, RuntimeError)
        and "\n" not in message
        and "device" in message
        and any(re.search(rf"\b{device}\b", message) for device in devices - {"cpu"})
    )


def _shows(message: str, given: Mapping[str, Any], depth: int) -> bool:
    """Whether a message of another library shows its reader one of the hostile arguments."""
    if "\n" in message:
        return False
    values = [v for x in given.values() for v in (*(x if isinstance(x, list | tuple) else ()), x)]
    texts = [text for v in values for text in (repr(v), str(v)) if 1 < len(text) < 100]
    if any(re.search(rf"\b{re.escape(name)}\b", message) for name in given):
        return True
    if any(text in message for text in texts):
        return True
    kinds = {type(value).__name__ for value in values}
    return depth <= 2 and bool(EXPECTED.search(message)) and any(kind in message for kind in kinds)


def _place(trace: TracebackType | None) -> tuple[str, int, bool]:
    """The innermost file and function of hyena, how many functions of hyena lead there, and whether
    it raises the exception itself."""
    frames = traceback.extract_tb(trace)
    inside = [frame for frame in frames if "/hyena/" in frame.filename.replace("\\", "/")]
    if not inside:
        return "outside", 0, False
    last = inside[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    name = last.filename.replace("\\", "/").rpartition("/hyena/")[2]
    return f"{name}:{last.name}", len(inside), last is frames[-1] and line.startswith("raise")


def commanded(words: list[str]) -> tuple[Outcome, str]:
    """Of a command line, run in this process: one line of error, or its output."""
    from hyena.cli import main

    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(words)
    except BaseException as error:
        where, _, _ = _place(error.__traceback__)
        found = f"{type(error).__name__} at {where}"
        return Outcome("traceback", f"{type(error).__name__}: {error}"[:300], found), ""
    if code == 0:
        return Outcome("taken"), out.getvalue()
    last = (err.getvalue().splitlines() or [""])[-1]
    if "Traceback" in err.getvalue() or not last.startswith("error: "):
        return Outcome("message", f"code {code}: {err.getvalue()[-300:]}", "no line of error"), ""
    return Outcome("refused", last[:300]), ""
