"""`hyena info`: the versions in use."""

import os
import platform
from dataclasses import dataclass

import numpy
import safetensors
import torch

import hyena
from hyena.ops import backends, why_not_native

POSITIONAL = None


@dataclass
class Config:
    """Nothing to choose."""


def run(config: Config) -> None:
    """Prints the environment."""
    print(environment())


def environment() -> str:
    """Versions, threads and devices, one a line: what a report of a problem should contain."""
    rows = {
        "hyena": hyena.__version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "safetensors": safetensors.__version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "devices": ", ".join(_devices()),
        "convolution": f"{backends()[0]} ({_native()})",
    }
    return "\n".join(f"{name:12} {value}" for name, value in rows.items())


def _native() -> str:
    return "native kernel in use" if "native" in backends() else f"native: {why_not_native()}"


def _devices() -> list[str]:
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices
