"""Sequences that run together: a few of them in memory at a time, those of similar lengths as one
batch.

Rows are padded on the right, where padding has no say in what comes before it: models are causal,
so that no mask is needed.

Sizes: B rows, L length.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena.arguments import IGNORE
from hyena.model import ModelConfig

MOST_TOKENS = 1 << 17
"""Of a batch of several rows, and of the sequences that wait for each other: an interruption loses
no more of them, and memory is that of one row of this length."""

_WAITING = 16  # batches of sequences that wait for others of their length, at most
_LONGER = 1.125  # the longest row of a batch, in lengths of its shortest

T = TypeVar("T")


def waiting(
    items: Iterable[T], size: Callable[[T], int], batch: int, most: int = MOST_TOKENS
) -> Iterator[list[T]]:
    """The items in order, as many at a time as may run together in some order.

    Args:
        size: tokens of an item.
        batch: rows that run at once.
        most: tokens with which a list ends; that which reaches them is still in it.
    """
    found: list[T] = []
    tokens = 0
    for item in items:
        found.append(item)
        tokens += size(item)
        if len(found) == _WAITING * batch or tokens >= most:
            yield found
            found, tokens = [], 0
    if found:
        yield found


def similar(lengths: Sequence[int], batch: int, config: ModelConfig) -> Iterator[list[int]]:
    """The places of rows that run as one batch, the longest one last.

    Args:
        lengths: of all rows, in tokens.
        batch: most rows of a batch.
        config: of the model, which may stretch its filters with the length of a batch.
    """
    group: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        longest = lengths[place]
        if group:
            shortest = lengths[group[0]]
            stretched = config.length_policy == "interpolate" and longest > config.max_length
            if (
                len(group) == batch
                or longest * (len(group) + 1) > MOST_TOKENS
                or longest > (shortest if stretched else _LONGER * shortest)
            ):
                yield group
                group = []
        group.append(place)
    if group:
        yield group


def padded(rows: Sequence[NDArray[Any]], first: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rows of tokens as one batch, padded on the right.

    Args:
        rows: the tokens of each.
        first: tokens that stand before each row.

    Returns: ids (B, L) and the tokens of each row, (B,), with those before it; int64.
    """
    begin = len(first)
    lengths = torch.tensor([begin + len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)  # any token pads
    ids[:, :begin] = torch.tensor(list(first), dtype=torch.int64)
    for into, row in zip(ids, rows, strict=True):
        into[begin : begin + len(row)] = torch.from_numpy(row.astype(np.int64))
    return ids, lengths


def inputs_and_targets(
    rows: Sequence[NDArray[np.int64]], scored: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Rows of tokens as one batch in which each token but the last is an input, and the next one
    its target.

    Args:
        rows: the tokens of each.
        scored: the first target of each that counts.

    Returns: inputs and targets (B, L) int64; `IGNORE` where there is no target, or it does not
        count.
    """
    inputs, lengths = padded([tokens[:-1] for tokens in rows], ())
    targets = torch.full_like(inputs, IGNORE)
    for into, tokens, first, length in zip(targets, rows, scored, lengths.tolist(), strict=True):
        into[first:length] = torch.from_numpy(tokens[first + 1 :])
    return inputs, targets
