"""A model in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Inside, the model and its parts are in evaluation mode; afterwards as they were before."""
    modes = [(module, module.training) for module in model.modules()]  # outer ones first
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.train(training)
