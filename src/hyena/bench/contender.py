"""One way to do the work of a cell: the call that is timed, and how what it returns is checked."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Relative L2 errors that a contender may show and still be timed: several times those of rounding.
# The operator's filter network amplifies it, and attention's gradients in q and k are differences
# of nearly equal numbers where the sequence is long.
CONV_TOLERANCE = 2e-6
OPERATOR_TOLERANCE = 2e-5
ATTENTION_TOLERANCE = 1e-4
BF16_TOLERANCE = 5e-2

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
