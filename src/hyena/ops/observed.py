"""Who looks on: every question that is asked of PyTorch's modes, compilers and tracers.

The kernel reads and writes addresses, of which none of these would notice anything.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad

PLAIN = (Tensor, torch.nn.Parameter)

Observer = Literal["nobody", "autograd", "ops", "program", "transform"]
"""Who has to be served: nobody; autograd; what must see each op, a mode or a tensor of its own
kind; a compiler or tracer, which records a program; a transform of torch.func."""


def observer(tensors: Iterable[Tensor | None]) -> Observer:
    """Who looks on at a computation with these tensors: the last in the list above that does."""
    if torch._C._are_functorch_transforms_active():
        return "transform"
    # Dynamo knows the first, so it does not come to the second, which it would guard.
    if torch.compiler.is_dynamo_compiling() or torch.compiler._is_compiling_flag:
        return "program"
    if torch._C._is_tracing():
        return "program"
    if torch._C._len_torch_dispatch_stack():
        return "ops"
    records = torch.is_grad_enabled()
    found: Observer = "nobody" if forward_ad._current_level < 0 else "autograd"
    for x in tensors:
        if x is None:
            continue
        if type(x) not in PLAIN:
            return "ops"
        if records and x.requires_grad:
            found = "autograd"
    return found


def unobserved(*tensors: Tensor | None) -> bool:
    """Whether nobody looks on, and no gradient is recorded."""
    return observer(tensors) == "nobody"


def records_program() -> bool:
    """Whether a compiler or tracer records a program that other data may run through."""
    return torch.compiler.is_compiling() or torch._C._is_tracing()


def transformed() -> bool:
    """Whether torch.func transforms what is computed: vmap, grad, jvp and so on."""
    return torch._C._are_functorch_transforms_active()


def applied(function: type[torch.autograd.Function]) -> object:
    """``function.apply`` for calls at which no transform looks on, without its checks of that:
    they take as long as a small convolution."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]


alive = torch._C._functorch.unwrap_if_dead  # of a tensor that has outlived its transform
