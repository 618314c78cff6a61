"""The two allocators that times are taken under: the system's as it comes, and glibc's tuned.

A fresh tensor of more than 32 MiB is new memory from the kernel each time under glibc's defaults,
and touching its pages first can cost more than the convolution that fills it. Tuned, memory that
was freed is kept and used again, in huge pages. glibc reads its settings when a process starts, so
each allocator has a process of its own.
"""

import os
import platform
from collections.abc import Mapping
from typing import Literal

Allocator = Literal["default", "tuned"]

# Larger than any tensor: nothing is taken from or given back to the system piece by piece.
_NEVER = str(1 << 40)

TUNED = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_THRESHOLD_": _NEVER,
    "MALLOC_TRIM_THRESHOLD_": _NEVER,
}


def environment(allocator: Allocator, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a process with this allocator: ``base``, or ours, without other settings.

    "default" too takes out what may be set outside, so that it is the default.
    """
    base = os.environ if base is None else base
    kept = {
        name: value
        for name, value in base.items()
        if name != "GLIBC_TUNABLES" and not name.startswith("MALLOC_")
    }
    return {**kept, **TUNED} if allocator == "tuned" else kept


def why_not_tuned() -> str:
    """One line: why there is no tuned allocator here; empty if there is."""
    if platform.libc_ver()[0] == "glibc":
        return ""
    return "the tuned allocator is glibc's, which this system does not have"


def describe(allocator: Allocator) -> str:
    """The allocator in words, with every setting."""
    if allocator == "default":
        preloaded = os.environ.get("LD_PRELOAD", "")
        return "the system's default" + (f", LD_PRELOAD={preloaded}" if preloaded else "")
    return "glibc, " + " ".join(f"{name}={value}" for name, value in TUNED.items())
