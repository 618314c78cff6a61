"""Which backends are tested with which dtypes."""

from collections.abc import Mapping

import pytest
import torch

from hyena.ops import backends


def cases(tolerance: Mapping[torch.dtype, float], without: str = "") -> list[object]:
    """Parameters (backend, dtype): each backend that is there with each dtype that it computes.

    The native kernel computes in float32, with float32 filters, and leaves float64 to PyTorch.
    """
    return [
        pytest.param(backend, dtype, id=f"{backend}-{dtype}")
        for backend in backends()
        for dtype in tolerance
        if backend != without and (backend != "native" or dtype != torch.float64)
    ]


def filter_dtype(backend: str, dtype: torch.dtype) -> torch.dtype:
    """The dtype of filters beside an input of ``dtype``: the same where the backend allows it."""
    return torch.float32 if backend == "native" else dtype
