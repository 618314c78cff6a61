"""Whether blocks and Hyena operators take their input whole, and what they give then.

The fixture ``pieces`` of conftest.py makes it an error outside `whole`, and what sets ``ALLOWED``.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

L = 23  # odd, and no slice divides it
POSITION = 4 * 12 * 8  # bytes that one makes of a width of 12, in float64
PIECE = 5  # positions of the smallest pieces

PADDING = torch.arange(L) >= torch.tensor([[0], [5]])
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding on the left": {"mask": PADDING},
    "padding on the right": {"mask": torch.arange(L) < torch.tensor([[4], [L]])},
    "documents": {"document_ids": torch.stack([torch.arange(L) // 5, torch.arange(L) // 9])},
}

ALLOWED = [False]


def taken_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which fails where it is not allowed."""

    def wrapper(*arguments: Any, **options: Any) -> Any:
        assert ALLOWED[0], "taken whole"
        return function(*arguments, **options)

    return wrapper


def whole(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What it gives on the way that short inputs take."""
    model: Any = function if isinstance(function, nn.Module) else function.__self__
    model.working_memory = 1 << 40
    ALLOWED[0] = True
    try:
        return function(*arguments, **options)
    finally:
        ALLOWED[0] = False
