"""Where the tests of ops, filters, mixers and models have their tensors: HYENA_TEST_DEVICE.

What a test makes itself is made on the CPU and moved, so that its numbers are the same on every
device. What the library makes stays where the library puts it: a default device of PyTorch's would
hide that it forgets to say where.
"""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping
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


def check(device: str) -> None:
    """Raises: pytest.UsageError, one line, if there is no such device, or one without numbers."""
    try:
        if torch.empty(1, device=device).is_meta:
            raise pytest.UsageError(f"{VARIABLE}={device}: there are no numbers to compare there")
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        why = str(problem).splitlines()[0]
        raise pytest.UsageError(f"{VARIABLE}={device}: no such device here: {why}") from None


def why_not(path: Path, marked: bool, arguments: Mapping[str, object]) -> str:
    """Why a test does not run on another device than the CPU; empty if it does.

    ``@pytest.mark.cpu`` says that it is about the CPU: its kernel, threads, autocast, or files,
    which are read to the CPU. All tests of ops/native are, and all of the backend "native".
    """
    part = path.relative_to(TESTS).parts
    if part[0] not in PARTS:
        return f"{VARIABLE} is of the tests of {', '.join(PARTS)}"
    native = "native" in [x for x in arguments.values() if isinstance(x, str)]
    if marked or native or part[1] == "native":
        return "it is about the CPU, its kernel or files"
    return ""


class Torch:
    """The name ``torch`` in a test: its factories make tensors on a device."""

    def __init__(self, device: str) -> None:
        self.device_of_tests = device

    def __getattr__(self, name: str) -> Any:
        found = getattr(torch, name)
        return _moving_tensors(found, self.device_of_tests) if name in FACTORIES else found


def _moving_tensors(factory: Callable[..., Tensor], device: str) -> Callable[..., Tensor]:
    @functools.wraps(factory)
    def make(*args: Any, **options: Any) -> Tensor:
        made = factory(*args, **options)
        if options.get("device") is not None:
            return made
        return made.detach().to(device).requires_grad_(made.requires_grad)

    return make


def move_tests(device: str) -> None:
    """From now on tests make their tensors and the package's modules on a device."""
    for module in list(sys.modules.values()):
        if _is_of_tests(getattr(module, "__file__", None)) and vars(module).get("torch") is torch:
            module.torch = Torch(device)  # type: ignore[attr-defined]
    for kind in _subclasses(nn.Module):
        if kind.__module__.startswith("hyena.") and "__init__" in vars(kind):
            kind.__init__ = _moving_module(kind.__init__, device)  # type: ignore[method-assign]


def _moving_module(init: Callable[..., None], device: str) -> Callable[..., None]:
    @functools.wraps(init)
    def make(self: nn.Module, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        by_a_test = _is_of_tests(sys._getframe(1).f_code.co_filename)
        if by_a_test and options.get("device") is None:
            self.to(device)

    return make


def _is_of_tests(file: str | None) -> bool:
    return file is not None and file != __file__ and TESTS in Path(file).parents


def _subclasses(kind: type) -> Iterable[type]:
    for sub in kind.__subclasses__():
        yield sub
        yield from _subclasses(sub)
