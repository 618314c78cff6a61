"""Whether a module is what its class says, so that its formula may be computed without calling it.

Another one is called, whatever it does: hooks (pruning, weight and spectral norm are such), an
adapter around it, a parametrisation, quantised weights, a forward of its own.
"""

from contextlib import nullcontext
from threading import RLock
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from hyena.ops.native.linear import Layer
from hyena.ops.observed import PLAIN, is_hooked, records_program

M = TypeVar("M", bound=nn.Module)


def is_plain(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether the module is of exactly this class, and nothing is done when it is called but the
    class's forward."""
    return type(module) is kind and not is_hooked(module)


def matrix_of(linear: nn.Module) -> Layer | None:
    """Weight and bias, if there is one, of a layer that is these and nothing else."""
    if not is_plain(linear, nn.Linear):
        return None
    parameters = linear._parameters
    weight = parameters.get("weight")
    if weight is None or type(weight) not in PLAIN or "bias" not in parameters:
        return None
    return weight, parameters["bias"]


def call_in(module: nn.Module, x: Tensor) -> Tensor:
    """``module(x)`` in the dtype of x, whatever the dtype of the parameters."""
    # No compiler can record the lock, nor needs it.
    with nullcontext() if records_program() else _swapping:
        dtype = x.dtype
        narrow = {
            name: p.to(dtype)
            for name, p in module.named_parameters()
            if p.is_floating_point() and p.dtype != dtype
        }
        if narrow:
            y: Tensor = torch.func.functional_call(module, narrow, (x,))
            return y
    y = module(x)
    return y


# `functional_call` puts the tensors into the module and takes them out again: of two calls at once,
# one would put back for good what the other had put in.
_swapping = RLock()
