"""Who looks on: every question that is asked of PyTorch's modes, compilers and tracers.

The kernel reads and writes addresses, of which none of these would notice anything.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

PLAIN = (Tensor, torch.nn.Parameter)
_PLAIN_OR_NONE = frozenset((*PLAIN, type(None)))


def recorded(tensors: Sequence[Tensor | None]) -> bool:
    """Whether something looks on that must see an op: a compiler, a tracer or counter of ops, or a
    tensor of its own kind."""
    return (
        torch.compiler.is_compiling()
        or torch._C._is_tracing()
        or torch._C._len_torch_dispatch_stack() > 0
        or not _PLAIN_OR_NONE.issuperset(map(type, tensors))
    )


def transformed() -> bool:
    """Whether torch.func transforms what is computed: vmap, grad, jvp and so on."""
    return torch._C._are_functorch_transforms_active()


def undisturbed(*tensors: Tensor | None) -> bool:
    """Whether this is plain eager code on plain tensors: nothing looks on that must see each op."""
    return not recorded(tensors) and not transformed()


def differentiated(tensors: Sequence[Tensor | None]) -> bool:
    """Whether an autograd function is needed; in forward mode, to refuse it."""
    return forward_ad._current_level >= 0 or (
        torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    )
