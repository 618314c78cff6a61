"""How much memory one call takes at its peak, as the system or a device counts it.

To be used in a fresh process: memory that a process has had before is not counted again.
"""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

_SHARE = 0.8  # of the memory that is available


class Peak(NamedTuple):
    """Bytes. ``call``: beyond what was there before the call, its inputs included in that."""

    call: int
    process: int


def peak_of(call: Callable[[], object], device: str = "cpu") -> Peak | str:
    """The peak of memory during a call, outputs included; a line that says why if unknown.

    On the CPU that of resident memory, on Linux only: the system's high-water mark is reset through
    ``/proc/self/clear_refs`` first. On another device that of PyTorch's tensors there.
    """
    if device != "cpu":
        return _peak_on_device(call)
    why = forget_peak()
    if why:
        return why
    before = _field(_STATUS, "VmRSS")
    call()
    peak = _field(_STATUS, "VmHWM")
    return Peak(max(0, peak - before), peak)


def forget_peak() -> str:
    """Resets the system's high-water mark of this process to what is resident now; why it cannot
    be, one line, or nothing."""
    if not _STATUS.is_file():
        return "peak memory is read from /proc, which this system does not have"
    gc.collect()
    _give_back()
    try:
        _CLEAR.write_text("5")
    except OSError as error:
        return f"the high-water mark cannot be reset: {error.strerror}"
    return ""


def _peak_on_device(call: Callable[[], object]) -> Peak:
    gc.collect()
    torch.accelerator.reset_peak_memory_stats()
    before = torch.accelerator.memory_allocated()
    call()
    torch.accelerator.synchronize()
    peak = torch.accelerator.max_memory_allocated()
    return Peak(peak - before, peak)


def available() -> int | None:
    """Bytes that the system could still give; None if it does not say."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    return _field(info, "MemAvailable")


def too_large(bytes: float, device: str = "cpu") -> str:
    """Why so many bytes are left out, one line; empty if they fit, or nobody knows."""
    room = available() if device == "cpu" else torch.accelerator.get_memory_info()[0]
    if room is None or bytes <= _SHARE * room:
        return ""
    return f"may need {bytes / 2**30:.1f} GiB, and {room / 2**30:.1f} GiB are free"


def _field(file: Path, name: str) -> int:
    """In bytes; the system counts in KiB."""
    lines = (line.split() for line in file.read_text().splitlines())
    return next(1024 * int(line[1]) for line in lines if line[:1] == [f"{name}:"])


def _give_back() -> None:
    """What is free in the allocator goes back to the system, where it is glibc's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
