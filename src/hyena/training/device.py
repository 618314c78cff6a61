"""Which device to compute on, and what it can do."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["32", "64", "bf16-mixed"]
Accelerator = Literal["auto", "cpu", "cuda", "mps"]


def find_device(accelerator: Accelerator) -> torch.device:
    """The device for an accelerator; "auto" takes CUDA or MPS where present, else the CPU.

    Raises: ValueError if the accelerator is not there.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if accelerator == "auto":
        return torch.device(next(name for name, there in present.items() if there))
    if not present[accelerator]:
        there = ", ".join(name for name, here in present.items() if here)
        raise ValueError(
            f"accelerator {accelerator} was asked for, but is not there; this machine has {there}"
        )
    return torch.device(accelerator)


def check_device(precision: Precision, device_type: str) -> None:
    """Refuses arithmetic that a device has not got.

    Args:
        precision: as in `TrainConfig`.
        device_type: type of the torch device, such as "cpu" or "mps".

    Raises: ValueError for float64 on MPS.
    """
    if precision == "64" and device_type == "mps":
        raise ValueError(
            'precision "64" was asked for on MPS, which has no float64; '
            'use accelerator "cpu" or precision "32"'
        )
