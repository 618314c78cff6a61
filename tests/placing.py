"""Where the tests of ops, filters, mixers and models have their tensors: HYENA_TEST_DEVICE.

What a test makes itself is made on the CPU and moved, so that its numbers are the same on every
device. What the library makes stays where the library puts it: a default device of PyTorch's would
hide that it forgets to say where.
"""

import functools
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

VARIABLE = "HYENA_TEST_DEVICE"
DEVICE = os.environ.get(VARIABLE) or "cpu"
TESTS = Path(__file__).parent
PARTS = ("ops", "filters", "mixers", "model")
FACTORIES = {"arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn"}
FACTORIES |= {"randperm", "tensor", "zeros"}

# What is of the CPU alone: its kernel and threads, and files, which are read to the CPU.
_FILES = {"test_library.py", "test_model_folder.py", "test_format_1.py"}
_WORDS = re.compile(r"\bcpu\b|native|thread|pickle|\b(load|save)(_state)?\(", re.IGNORECASE)


def check(device: str) -> None:
    """Raises: pytest.UsageError, one line, if there is no such device."""
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        why = str(problem).splitlines()[0]
        raise pytest.UsageError(f"{VARIABLE}={device}: no such device here: {why}") from None


def why_not(path: Path, function: Callable[..., object], arguments: Iterable[object] = ()) -> str:
    """Why a test does not run on another device than the CPU; empty if it does."""
    part = path.relative_to(TESTS).parts
    if part[0] not in PARTS:
        return f"{VARIABLE} is of the tests of {', '.join(PARTS)}"
    its = part[1] == "native" or path.name in _FILES
    its = its or "native" in [x for x in arguments if isinstance(x, str)]
    if its or _WORDS.search(inspect.getsource(function)):
        return "it is about the CPU, its kernel or files"
    return ""


class Torch:
    """The name ``torch`` in a test: its factories make tensors on a device."""

    def __init__(self, device: str) -> None:
        self.device_of_tests = device

    def __getattr__(self, name: str) -> Any:
        found = getattr(torch, name)
        return _moved(found, self.device_of_tests) if name in FACTORIES else found


def _moved(factory: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    @functools.wraps(factory)
    def make(*args: Any, **options: Any) -> Tensor:
        made = factory(*args, **options)
        if options.get("device") is not None:
            return made
        return made.detach().to(device).requires_grad_(made.requires_grad)

    return make


def place(device: str) -> None:
    """From now on tests make their tensors and the package's modules on a device."""
    for module in list(sys.modules.values()):
        if _is_of_tests(getattr(module, "__file__", None)) and vars(module).get("torch") is torch:
            module.torch = Torch(device)  # type: ignore[attr-defined]
    for kind in _kinds(nn.Module):
        if kind.__module__.startswith("hyena.") and "__init__" in vars(kind):
            kind.__init__ = _placed(kind.__init__, device)  # type: ignore[method-assign]


def _placed(init: Callable[..., None], device: str) -> Callable[..., None]:
    @functools.wraps(init)
    def make(self: nn.Module, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        by_a_test = _is_of_tests(sys._getframe(1).f_code.co_filename)
        if by_a_test and options.get("device") is None:
            self.to(device)

    return make


def _is_of_tests(file: str | None) -> bool:
    return file is not None and file != __file__ and TESTS in Path(file).parents


def _kinds(kind: type) -> Iterable[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _kinds(sub)
