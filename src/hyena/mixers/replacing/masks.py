"""Masks of attention, read as what a convolution can honour: which positions are padding.

Sizes: B batch, L queries, T keys; the queries are the last L of T positions.
"""

from typing import Literal

import torch
from torch import Tensor


def holds(condition: Tensor) -> bool:
    """Whether the condition is true everywhere; on the meta device there are no values to doubt."""
    return condition.is_meta or bool(condition.all())


def seen_by(
    op: str, name: str, mask: Tensor, *, true: Literal["look", "ignore"], finite: bool = False
) -> Tensor:
    """True where a mask lets through.

    Args: true: what True says in a mask of bool. In one of floats 0 lets through, and -inf does
        not; if ``finite`` the least number of the dtype does not either.
    Raises: ValueError, with this op and name, on a mask of integers or of other values.
    """
    if mask.dtype == torch.bool:
        return mask if true == "look" else ~mask
    least = torch.finfo(mask.dtype).min if finite and mask.is_floating_point() else -torch.inf
    if not mask.is_floating_point():
        raise ValueError(
            f"{op}: expected {name} of bool (True = {true}) or float ({least:g} = ignore), got "
            f"{mask.dtype}; mask.bool() makes it one"
        )
    seen = mask == 0
    if not holds(seen | (mask <= least)):
        raise ValueError(
            f"{op}: {name} holds values other than 0 and {least:g}, but Hyena has no attention "
            f"scores to add them to; pass only 0 and {least:g}, or a bool mask"
        )
    return seen


def real_of(seen: Tensor, *, causal: bool) -> Tensor | None:
    """Which positions are real, (B, T), by a mask that hides padding and, if causal, the future.

    Args: seen: (B, L, T), True where a query sees a key. What padding sees of real keys is of no
        meaning.
    Returns: True at real positions; None if the mask hides or shows anything else.
    """
    L, T = seen.shape[1:]
    real = seen.any(1)  # who sees itself; nobody sees padding
    expected = real[:, None].expand(seen.shape)
    if causal:
        expected = expected & torch.ones(L, T, dtype=torch.bool, device=seen.device).tril(T - L)
    of_padding = ~real[:, T - L :, None] & real[:, None]
    return real if holds((seen == expected) | of_padding) else None


def padding_only(real: Tensor | None) -> Tensor | None:
    """The mask, but None where all is real: without a mask the operator has a faster way."""
    return None if real is None or holds(real) else real
