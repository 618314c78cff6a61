"""Rows of a batch, chosen by index and put together: what states of generation are copied by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from hyena.ops.arguments import shown

Rows = Tensor | Sequence[int]


@contextmanager
def normal_tensors() -> Iterator[None]:
    """What is made here can be written to in place, in inference mode and outside, and has no
    gradient."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def index_of(name: str, rows: Rows, batch: int, device: torch.device) -> Tensor:
    """The indices as an int64 tensor (rows,) on the device.

    Raises: ValueError unless they are whole numbers from 0 to batch − 1, one after the other.
    """
    expected = f"{name}.select: expected a list of indices below {batch}, the number of rows, got "
    try:
        index = torch.as_tensor(rows, device=device)
        whole = not (index.is_floating_point() or index.is_complex() or index.dtype == torch.bool)
    except (TypeError, ValueError, RuntimeError):  # of numbers beyond 64 bits as well
        whole, index = False, torch.empty(1)
    if index.dim() != 1 or not (whole or index.numel() == 0):
        raise ValueError(expected + shown(rows))
    index = index.to(torch.int64)
    outside = index[(index < 0) | (index >= batch)]
    if outside.numel():
        raise ValueError(expected + str(int(outside[0])))
    return index


def check_alike(
    name: str, tensors: Sequence[Mapping[str, Tensor]], settings: Sequence[Mapping[str, int]]
) -> None:
    """Whether states can be joined: equal but for the first dimension of their tensors.

    Raises: ValueError if they differ elsewhere, or if there are none.
    """
    if not tensors:
        raise ValueError(f"{name}.join: expected at least one state, got none")
    for other in settings[1:]:
        if other != settings[0]:
            raise ValueError(
                f"{name}.join: the states differ, {dict(settings[0])} and {dict(other)}; join "
                "states of equally long prompts, prefilled alike, after equally many steps"
            )
    for these in tensors[1:]:
        for key in sorted(tensors[0].keys() | these.keys()):
            one, other_one = tensors[0].get(key), these.get(key)
            if _kind(one) != _kind(other_one):
                raise ValueError(
                    f"{name}.join: the states differ in {key}, {_text(one)} and "
                    f"{_text(other_one)}; join states of one model, at the same position"
                )


def _kind(x: Tensor | None) -> tuple[object, ...] | None:
    return None if x is None else (x.shape[1:], x.dtype, x.device)


def _text(x: Tensor | None) -> str:
    return "none" if x is None else f"{tuple(x.shape)} of {x.dtype} on {x.device}"
