"""Who looks on: every question that is asked of PyTorch's modes, compilers, tracers and hooks.

The kernel reads and writes addresses, of which none of these would notice anything.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as of_all

PLAIN = (Tensor, nn.Parameter)

Observer = Literal["nobody", "autograd", "ops", "program", "transform"]
"""Who has to be served: nobody; autograd; what must see each op, a mode or a tensor of its own
kind; a compiler or tracer, which records a program; a transform of torch.func, or forward mode."""


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
    if forward_ad._current_level >= 0:  # as `forward_mode`, without a function on an op's way
        return "transform"
    records = torch.is_grad_enabled()
    found: Observer = "nobody"
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


def compiling() -> bool:
    """Whether `torch.compile` or `torch.export` records a program."""
    return torch.compiler.is_compiling()


# Whether `torch.export` does, whose program may take any length and run anywhere. Each call of an
# op asks this, so it is no Python function, which would be one more on the way.
exporting: Callable[[], bool] = partial(getattr, torch.compiler, "_is_exporting_flag")


def transformed() -> bool:
    """Whether torch.func transforms what is computed: vmap, grad, jvp and so on."""
    return torch._C._are_functorch_transforms_active()


def forward_mode() -> bool:
    """Whether derivatives are carried along with values: `torch.func.jvp`, dual levels."""
    return forward_ad._current_level >= 0


def refuses_functions() -> bool:
    """Whether PyTorch takes no autograd function here: in forward mode, for which they have no
    rule, since `torch.compile` refuses functions with one; and where a compiler records a transform
    of torch.func, which cannot map over functions."""
    return transformed() if compiling() else forward_mode()


def differentiated(function: type[torch.autograd.Function], *arguments: Any) -> Any:
    """``function.apply``, of a function whose context is set up apart; where PyTorch refuses it,
    its forward alone, whose own ops are differentiated."""
    run = function.forward if refuses_functions() else function.apply
    return run(*arguments)


def mapped(x: Tensor) -> bool:
    """Whether `torch.func.vmap` runs over it, so that it has no values of its own."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(x):
        if functorch.is_batchedtensor(x):
            return True
        x = functorch.get_unwrapped(x)
    return False


def is_hooked(module: nn.Module) -> bool:
    """Whether a call does more than the class's forward: hooks, its own or those of all modules, or
    a forward of the instance."""
    return has_hooks(module) or bool(of_all._has_any_global_hook())


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
    """Where calls of these modules that record no gradient find their hooks, now and later: all are
    empty if there are none. A forward of the instance is not among them."""
    return [
        of_all._global_forward_hooks,
        of_all._global_forward_pre_hooks,
        *(hooks for x in modules for hooks in (x._forward_hooks, x._forward_pre_hooks)),
    ]


def applied(function: type[torch.autograd.Function]) -> object:
    """``function.apply`` for calls at which no transform looks on, without its checks of that:
    they take as long as a small convolution."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]


alive = torch._C._functorch.unwrap_if_dead  # of a tensor that has outlived its transform


def own_of(tensors: Iterable[Tensor | None]) -> list[Tensor | None]:
    """The tensors as ones of their own, for gradients in them alone. One may have been made of
    another, as what a filter has convolved before of that filter: its gradient would pass on to the
    other, and count there twice."""
    return [None if x is None else x.view_as(x) for x in tensors]
