"""Rows of a batch, chosen by index and put together: what states of generation are copied by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

Rows = Tensor | Sequence[int]


@contextmanager
def normal_tensors() -> Iterator[None]:
    """What is made here can be written to in place, in inference mode and outside, and has no
    gradient."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def index_of(rows: Rows, device: torch.device) -> Tensor:
    """The indices as an int64 tensor (rows,) on the device."""
    return torch.as_tensor(rows, dtype=torch.int64, device=device)


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
