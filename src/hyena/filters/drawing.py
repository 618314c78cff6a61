"""Random initial values."""

import torch
from torch import Tensor, nn


def draw_normal(x: Tensor, std: float = 1.0, generator: torch.Generator | None = None) -> None:
    """Fills ``x`` from N(0, std²). On the device "meta" it has no values, and nothing is done:
    PyTorch would load its compiler for this, which takes seconds."""
    if not x.is_meta:
        nn.init.normal_(x, std=std, generator=generator)
