"""What a benchmark or an experiment says of where it ran."""

import hashlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

import torch

from hyena import __version__
from hyena.ops import backends, why_not_native
from hyena.ops.native import library

# Words in the names of processors that tell nothing apart.
_NOISE = {"amd", "intel", "r", "tm", "cpu", "processor", "core", "with", "virtual"}


def setting() -> dict[str, Any]:
    """Versions, processor, threads, dtype, allocator and the command."""
    return {
        "hyena": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "allocator": "default",
        "command": "python " + " ".join(sys.argv),
    }


def convolution() -> dict[str, str]:
    """Which convolution "ours" stands for here: the backend, and the kernel's build and contents.

    The digest of the kernel's library keeps times of two kernels apart.
    """
    if "native" not in backends():
        return {"backend": "torch", "kernel": f"none: {why_not_native()}"}
    file = library.find()
    digest = "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return {"backend": "native", "kernel": f"{library.isa()} {digest}".strip()}


def of_record() -> dict[str, Any]:
    """What the record of a training says of where it ran, by the record's fields: versions of
    hyena, torch and Python, and which convolution ran; processor and number of cores; threads."""
    where = setting()
    versions = {name: where[name] for name in ("hyena", "torch", "python")}
    return {
        "versions": {**versions, **convolution()},
        "machine": {name: where[name] for name in ("processor", "cores")},
        "threads": where["threads"],
    }


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for products in bfloat16. Without them PyTorch takes
    many times as long as in float32. Where the system does not list them, as Linux on x86 does,
    they are taken for granted."""
    flags = _processor_info("flags").split()
    return not flags or not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def hardware() -> str:
    """A short name of the machine for a folder, such as "epyc-2core"."""
    name = re.sub(r"@.*", "", _processor_name().lower())
    words = [word for word in re.findall(r"[a-z0-9.]+", name) if word not in _NOISE]
    return "-".join([*words[:3], f"{os.cpu_count()}core"])


def _processor() -> str:
    """The name the system gives it, and the widest vectors that PyTorch uses on it."""
    return f"{_processor_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor_name() -> str:
    return _processor_info("model name") or platform.processor() or platform.machine()


def _processor_info(field: str) -> str:
    """What Linux says of the first processor; empty if it says nothing."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((x.split(":", 1)[1].strip() for x in lines if x.startswith(field)), "")
