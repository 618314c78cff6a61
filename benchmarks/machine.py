"""What a benchmark says of where it ran."""

import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

import hyena


def setting() -> dict[str, Any]:
    """Versions, processor, threads, dtype and allocator."""
    return {
        "hyena": hyena.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "allocator": "default",
        "command": "python " + " ".join(sys.argv),
    }


def _processor() -> str:
    """The name the system gives it, and the widest vectors that PyTorch uses on it."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"
