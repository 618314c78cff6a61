"""The loss of a language model by the position in a window: what a longer context is worth to it,
also beyond the length that it was trained at."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hyena.arguments import check_whole, shown
from hyena.evaluation.documents import checked, token_ids
from hyena.evaluation.losses import Model, check_model, evaluated, target_losses

_FIRST = 64
"""Targets of the first bin."""


@dataclass(frozen=True)
class PositionLosses:
    """Result of `evaluate_by_position`.

    Attributes:
        edges: the first position of each bin, ascending, and at the end the length of a window. The
            target at position t has the t + 1 inputs of its window up to there as context.
        losses: mean negative log-likelihood of a target in each bin, in nats.
        windows: that were read, of as many targets in each bin.
        documents: that had one or more.
        shorter: documents left out, since they are shorter than a window.
    """

    edges: list[int]
    losses: list[float]
    windows: int
    documents: int
    shorter: int


def position_bins(length: int, *, first: int = _FIRST) -> list[int]:
    """Edges of bins whose width grows with the position: two to each power of two, both of as many
    positions, so that all powers of two from ``first`` on are edges.

    Args:
        length: of a window, the last edge.
        first: positions of the first bin, 2 or more.

    Raises: ValueError on what are no such numbers.
    """
    length = check_whole("position_bins: length", length)
    first = check_whole("position_bins: first", first, 2)
    edges, power = [0], first
    while power < length:
        edges += [power] if power + power // 2 >= length else [power, power + power // 2]
        power *= 2
    return [*edges, length]


def evaluate_by_position(
    model: Model,
    documents: Iterable[tuple[NDArray[Any], int]],
    *,
    length: int,
    edges: Sequence[int] | None = None,
    batch: int = 1,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PositionLosses:
    """The mean loss at each position of windows of ``length``, over bins of positions.

    Documents are cut into windows that follow one another, each of which is read alone. Every
    target of a window is scored, and only whole windows are read, so that all positions have the
    same texts. What is left of a document, and shorter documents, are left out.

    A model under the length policy "interpolate" has other filters at each length: its losses are
    those of inputs as long as the window, at small positions too.

    Args:
        model, documents, device: as in `evaluate`.
        length: inputs of a window.
        edges: of the bins, from 0 to ``length``; none takes those of `position_bins`.
        batch: windows at a time. Changes nothing but the speed.
        progress: called after each batch with the documents read and targets scored so far.

    Raises: as `evaluate`; ValueError also if no document is as long as a window, or if the edges do
        not ascend from 0 to the length.
    """
    check_model(model)
    length = check_whole("evaluate: length", length)
    batch = check_whole("evaluate: batch", batch)
    bins = _checked_edges(position_bins(length) if edges is None else edges, length)
    sums = np.zeros(len(bins) - 1)  # of the losses in each bin
    n_windows = n_documents = n_shorter = longest = 0

    def windows() -> Iterator[NDArray[np.int64]]:
        nonlocal n_documents, n_shorter, longest
        for tokens, count, _ in checked(documents):
            longest = max(longest, count - 1)
            n_documents += count > length
            n_shorter += count <= length
            for start in range(0, count - length, length):
                yield token_ids(tokens, start, start + length + 1)

    with evaluated(model, device) as where:
        for chunk in _chunks(windows(), batch):
            scored = torch.ones(len(chunk), length, dtype=torch.bool)
            losses = target_losses(model, torch.from_numpy(np.stack(chunk)), scored, where)
            at_positions = losses.reshape(len(chunk), length).sum(0).numpy()
            sums += np.add.reduceat(at_positions, bins[:-1])
            n_windows += len(chunk)
            if progress is not None:
                progress(n_documents + n_shorter, n_windows * length)
    if not n_documents + n_shorter:
        raise ValueError("evaluate: there are no documents to evaluate")
    if not n_windows:
        raise ValueError(
            f"evaluate: a window of {length} inputs was asked for, but the longest document has "
            f"{longest}; lower the length"
        )
    return PositionLosses(
        edges=bins,
        losses=(sums / (n_windows * np.diff(bins))).tolist(),
        windows=n_windows,
        documents=n_documents,
        shorter=n_shorter,
    )


def _checked_edges(edges: Any, length: int) -> list[int]:
    try:
        found = [check_whole("evaluate: edges", edge, 0) for edge in edges]
    except TypeError as error:
        raise _no_edges(edges, length) from error
    if len(found) < 2 or found[0] != 0 or found[-1] != length or min(np.diff(found)) < 1:
        raise _no_edges(edges, length)
    return found


def _no_edges(edges: object, length: int) -> ValueError:
    return ValueError(
        f"evaluate: expected edges of bins that ascend from 0 to the length {length}, got "
        f"{shown(edges)}"
    )


def _chunks(windows: Iterable[NDArray[np.int64]], batch: int) -> Iterator[list[NDArray[np.int64]]]:
    chunk = []
    for window in windows:
        chunk.append(window)
        if len(chunk) == batch:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
