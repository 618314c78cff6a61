"""What a tensor, a size or a number of a layer must be; one clear line where it is not.

`hyena.arguments` has what needs no PyTorch.
"""

import math
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from hyena.arguments import as_whole, shown
from hyena.ops.observed import records_program

WIDEST = 2**20  # far beyond any layer, and products of three such sizes fit in 64 bits
DEEPEST = 2**10  # layers, for the same reason
LARGEST = 1 << 48  # positions: more than any memory holds, and sizes made of it still fit 64 bits
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


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
    """Raises TypeError unless x is a tensor, or None if it is optional, and ValueError if it is a
    sparse one."""
    if not isinstance(x, Tensor):
        if not (optional and x is None):
            raise not_a_tensor(op, name, x, optional)
    elif x.layout is not torch.strided:
        raise ValueError(
            f"{op}: expected a dense tensor as {name}, got one of {x.layout}; "
            f"{name}.to_dense() makes one of it"
        )


def check_size(op: str, name: str, size: Any, least: int = 0) -> int:
    """The size as an int, be it of NumPy or PyTorch; in a program that is recorded as it is.

    Raises: TypeError unless it is a whole number, and ValueError unless a tensor can be as long.
    """
    whole: Any = size
    if isinstance(size, Tensor) and records_program():  # the tracer's size of a tensor
        return whole
    if type(size) is not int and not isinstance(size, torch.SymInt):  # the compiler traces no more
        whole = as_whole(size)
    if whole is None:
        raise TypeError(f"{op}: expected an integer as {name}, got {type(size).__name__}")
    if not least <= whole <= LARGEST:
        raise ValueError(f"{op}: expected {name} from {least} to 2^48, got {shown(size)}")
    return whole


def check_sizes(name: str, *, most: int = WIDEST, **sizes: Any) -> tuple[int, ...]:
    """The sizes as ints; products of those of NumPy wrap around.

    Raises: ValueError unless each is a whole number from 1 to ``most``.
    """
    checked = []
    for argument, size in sizes.items():
        whole = as_whole(size)
        if whole is None or not 1 <= whole <= most:
            raise ValueError(
                f"{name}: expected a whole number from 1 to {most} as {argument}, got {shown(size)}"
            )
        checked.append(whole)
    return tuple(checked)


def check_numbers(name: str, **values: Any) -> tuple[float, ...]:
    """The values as floats, since PyTorch takes no integer beyond 64 bits for a number.

    Raises: ValueError unless each is a finite real number.
    """
    for argument, value in values.items():
        if not (isinstance(value, Real) and _is_finite(value)):
            raise ValueError(f"{name}: expected a finite number as {argument}, got {shown(value)}")
    return tuple(map(float, values.values()))


def placement(name: str, device: Any, dtype: Any) -> dict[str, Any]:
    """Where the parameters of a layer go and of which dtype they are, for PyTorch's functions; None
    is PyTorch's default.

    Raises: ValueError if there is no such device, or if weights cannot be of that dtype.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in FLOATS):
        raise ValueError(
            f"{name}: expected a dtype of 16 bits or more such as torch.float32, got {shown(dtype)}"
        )
    return {"device": None if device is None else checked_device(name, device), "dtype": dtype}


def checked_device(name: str, device: Any) -> torch.device:
    """The device so called. Raises: ValueError if there is none such."""
    try:
        return torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f'{name}: expected a device such as "cpu" or "cuda:0", got {shown(device)}'
        ) from error


def _is_finite(value: Real) -> bool:
    """Whether a number is finite, and no integer beyond the largest float."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
