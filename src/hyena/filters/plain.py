"""Whether a module is what its class says, so that its formula may be computed without calling it.

Another one is called, whatever it does: hooks (pruning, weight and spectral norm are such), an
adapter around it, a parametrisation, quantised weights, a forward of its own.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as of_torch

M = TypeVar("M", bound=nn.Module)

Layer = tuple[Tensor, Tensor | None]
"""Weight (O, I) and bias (O,), if there is one."""

PLAIN = (Tensor, nn.Parameter)


def is_plain(module: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether the module is of exactly this class, and nothing is done when it is called but the
    class's forward."""
    return type(module) is kind and not is_hooked(module)


def is_hooked(module: nn.Module) -> bool:
    """Whether a call does more than the class's forward: hooks, its own or those of all modules, or
    a forward of the instance."""
    return has_hooks(module) or bool(of_torch._has_any_global_hook())


def has_hooks(module: nn.Module) -> bool:
    """Whether it has hooks of its own, or a forward of the instance."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def hooks_of(*modules: nn.Module) -> list[Mapping[int, Any]]:
    """Where calls of these modules find their hooks, now and later: all are empty if there are
    none. A forward of the instance is not among them."""
    return [
        of_torch._global_forward_hooks,
        of_torch._global_forward_pre_hooks,
        of_torch._global_backward_hooks,
        of_torch._global_backward_pre_hooks,
        *(hooks for x in modules for hooks in (x._forward_hooks, x._forward_pre_hooks)),
        *(hooks for x in modules for hooks in (x._backward_hooks, x._backward_pre_hooks)),
    ]


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
    dtype = x.dtype
    narrow = {
        name: p.to(dtype)
        for name, p in module.named_parameters()
        if p.is_floating_point() and p.dtype != dtype
    }
    y: Tensor = torch.func.functional_call(module, narrow, (x,)) if narrow else module(x)
    return y
