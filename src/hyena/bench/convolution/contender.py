"""A way to do the work of a case, ours or a baseline: the call that is timed, and its check."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Outputs = Sequence[Tensor]


@dataclass(frozen=True)
class Contender:
    """Attributes:
    call: what is timed. Returns the output; in training also the gradients.
    errors: relative L2 errors against float64 of what a call returned, by name.
    tolerance: the largest error at which it is timed.
    checked: what is checked in place of ``call``, where the truth of that would take too long.
    """

    call: Callable[[], Outputs]
    errors: Callable[[Outputs], dict[str, float]]
    tolerance: float
    checked: Callable[[], Outputs] | None = None


def infer(f: Callable[..., Tensor], inputs: Iterable[Tensor]) -> Outputs:
    """f(*inputs), with nothing kept for gradients."""
    with torch.no_grad():
        return [f(*inputs)]


def train(
    f: Callable[..., Tensor], inputs: Iterable[Tensor], leaves: Sequence[Tensor], dy: Tensor
) -> Outputs:
    """f(*inputs) and the gradients of sum(dy · f) in the leaves."""
    y = f(*inputs)
    return [y, *torch.autograd.grad(y, leaves, dy)]


def made(
    known: Mapping[str, Callable[[], Contender]], names: Sequence[str], work: str
) -> dict[str, Contender]:
    """Contenders by name. Raises: ValueError on a name that is unknown."""
    for name in names:
        if name not in known:
            raise ValueError(f"{work} has {', '.join(known)}, but not {name}")
    return {name: known[name]() for name in names}
