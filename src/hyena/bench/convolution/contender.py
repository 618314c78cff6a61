"""A way to do the work of a case, ours or a baseline: the call that is timed, and its check."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hyena.bench.reference import compared_rows, relative_error

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


def at_rows(
    call: Callable[[Tensor], Outputs],
    dy: Tensor,
    dim: int,
    truth: Callable[[Tensor], tuple[Tensor, Mapping[str, Tensor]]],
    tolerance: float,
) -> Contender:
    """Attention, compared at some positions only, since the truth takes O(L) for each.

    Args:
        call: of dy, the output and in training the gradients.
        dy: of the shape of the output, whose dimension ``dim`` is the length.
        truth: of positions (R,), the output there in float64, and the leaves by name.
        tolerance: the largest error at which it is timed.
    """
    rows = compared_rows(dy.shape[dim])
    its = dy.index_select(dim, rows)
    some = torch.zeros_like(dy).index_copy_(dim, rows, its)

    def errors(got: Outputs) -> dict[str, float]:
        y, leaves = truth(rows)
        expected = [y.detach()]
        if len(got) > 1:
            expected += torch.autograd.grad(y, list(leaves.values()), its.double())
        parts = [got[0].index_select(dim, rows), *got[1:]]
        pairs = zip(["y", *leaves], parts, expected, strict=False)
        return {name: relative_error(x, right) for name, x, right in pairs}

    return Contender(partial(call, dy), errors, tolerance, partial(call, some))


def made(
    known: Mapping[str, Callable[[], Contender]], names: Sequence[str], work: str
) -> dict[str, Contender]:
    """Contenders by name. Raises: ValueError on a name that is unknown."""
    for name in names:
        if name not in known:
            raise ValueError(f"{work} has {', '.join(known)}, but not {name}")
    return {name: known[name]() for name in names}
