"""What an argument of any kind must be; one clear line where it is not."""

import torch
from torch import Tensor

LARGEST = 1 << 48  # positions: more than any memory holds, and sizes made of it still fit 64 bits


def not_a_tensor(op: str, name: str, x: object, optional: bool = False) -> TypeError:
    """The error for an argument that is no tensor."""
    expected = "a tensor or None" if optional else "a tensor"
    if x is None:
        return TypeError(f"{op}: expected {expected} as {name}, got None")
    kind = f"{type(x).__module__}.{type(x).__qualname__}".removeprefix("builtins.")
    return TypeError(
        f"{op}: expected {expected} as {name}, got {kind}; torch.as_tensor makes one of numbers"
    )


def check_tensor(op: str, name: str, x: object, *, optional: bool = False) -> None:
    """Raises TypeError unless x is a tensor, or None if it is optional."""
    if not isinstance(x, Tensor) and not (optional and x is None):
        raise not_a_tensor(op, name, x, optional)


def check_size(op: str, name: str, size: object, least: int = 0) -> None:
    """Raises TypeError unless it is an integer, and ValueError unless a tensor can be as long."""
    if isinstance(size, bool) or not isinstance(size, int | torch.SymInt):
        raise TypeError(f"{op}: expected an integer as {name}, got {type(size).__name__}")
    if not least <= size <= LARGEST:
        raise ValueError(f"{op}: expected {name} from {least} to 2^48, got {size}")
