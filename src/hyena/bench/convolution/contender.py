"""A way to do the work of a case, ours or a baseline: the call that is timed, and its check."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from hyena.bench.reference import compared_rows, relative_error

Outputs = Sequence[Tensor]
"""An output, and in training the gradients in the leaves."""


@dataclass(frozen=True)
class Contender:
    """Attributes:
    call: what is timed.
    truth: what is compared of the outputs, in float64, by name.
    tolerance: the largest error at which it is timed.
    compared: of outputs, what is compared, in the order of the truth; all if not given.
    checked: what is checked in place of ``call``, where the truth of that would take too long.
    """

    call: Callable[[], Outputs]
    truth: Callable[[], Mapping[str, Tensor]]
    tolerance: float
    compared: Callable[[Outputs], Outputs] | None = None
    checked: Callable[[], Outputs] | None = None

    def errors(self, got: Outputs) -> dict[str, float]:
        """Relative L2 errors of outputs, by name."""
        pairs = zip(self.truth().items(), self.compared(got) if self.compared else got, strict=True)
        return {name: relative_error(x, right) for (name, right), x in pairs}


Makers = dict[str, Callable[[], Contender]]
"""By the names of the contenders, what makes them."""


def outputs(
    f: Callable[..., Tensor], inputs: Iterable[Tensor], leaves: Iterable[Tensor], dy: Tensor | None
) -> Outputs:
    """f(*inputs); in training, which is where dy is given, also the gradients of sum(dy · f)."""
    with torch.set_grad_enabled(dy is not None):
        y = f(*inputs)
    return [y] if dy is None else [y, *torch.autograd.grad(y, [*leaves], dy)]


def in_float64(
    f: Callable[..., Tensor],
    inputs: Iterable[Tensor],
    leaves: Mapping[str, Tensor],
    dy: Tensor | None,
) -> dict[str, Tensor]:
    """The same by name, "y" and those of the leaves, all in float64."""
    found = outputs(f, inputs, leaves.values(), None if dy is None else dy.double())
    return {name: x.detach() for name, x in zip(["y", *leaves], found, strict=False)}


def at_rows(
    call: Callable[[Tensor | None], Outputs],
    length: int,
    dim: int,
    dy: Tensor | None,
    truth: Callable[[Tensor, Tensor | None], Mapping[str, Tensor]],
    tolerance: float,
) -> Contender:
    """Attention, compared at some positions only, since the truth takes O(L) for each.

    Args:
        call: of dy, the outputs.
        length, dim: L, and the dimension of the output that it is.
        dy: of the shape of the output, in training.
        truth: of positions (R,) and dy there, the truth there; all on the CPU.
        tolerance: the largest error at which it is timed.
    """
    rows = compared_rows(length)
    its = some = None
    if dy is not None:
        there = rows.to(dy.device)
        chosen = dy.index_select(dim, there)
        its, some = chosen.cpu(), torch.zeros_like(dy).index_copy_(dim, there, chosen)

    def compared(got: Outputs) -> Outputs:
        return [got[0].index_select(dim, rows.to(got[0].device)), *got[1:]]

    known = partial(truth, rows, its)
    return Contender(partial(call, dy), known, tolerance, compared, partial(call, some))
