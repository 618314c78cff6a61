"""Vectors of sequences: what a layer makes of their tokens."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hyena.arguments import check_whole, shown
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.generation.model import check_model
from hyena.model import LanguageModel
from hyena.model.hidden import hidden

from .batches import MOST_TOKENS, padded, similar, waiting
from .sequences import OnError, Read, Reader, Sequences, SoftMasked, Tokens, check_choice, room

Pool = Literal["mean", "last", "none"]
Vectors = NDArray[np.floating[Any]]

_HELD_BYTES = 1 << 28  # of the vectors of sequences that wait for each other
_SLICE = 1 << 14  # positions that are widened at once


@dataclass(frozen=True, eq=False)
class Embedding:
    """What `embed` found of one sequence."""

    index: int
    """Its place among the sequences, from 0."""
    name: str
    """Its own, or its place."""
    tokens: int = 0
    """How many it has."""
    vectors: Vectors | None = None
    """(D,), or without pooling (n, D), a vector a token; float32, or float64 of a model in float64.
    None if the sequence was skipped."""
    skipped: str | None = None
    """Why there are none, or None."""

    def record(self) -> dict[str, Any]:
        """As JSON has it, without the vectors."""
        if self.skipped is not None:
            return {"index": self.index, "name": self.name, "skipped": self.skipped}
        return {"index": self.index, "name": self.name, "tokens": self.tokens}


def embed(
    model: LanguageModel,
    tokenizer: Tokenizer,
    sequences: Sequences,
    *,
    layer: str = "norm",
    pool: Pool = "mean",
    both_strands: bool = False,
    begin: bool = True,
    soft_masked: SoftMasked = "fold",
    batch: int = 8,
    on_error: OnError = "stop",
) -> Iterator[Embedding]:
    """The vectors of each sequence, in order, as far as they are asked for.

    A long sequence goes through the layers one after the other, in slices, so that little more than
    the residual stream is in memory; see ``LanguageModel.working_memory``. The model is in
    evaluation mode from the first sequence to the last.

    Args:
        model, tokenizer, sequences, soft_masked, batch, on_error: as in `hyena.score`.
        layer: "norm" for what the head reads, or "blocks.0" … for the residual stream after a
            block.
        pool: "mean" over the sequence's tokens, "last" for the last one, which has read all others,
            or "none" for a vector a token.
        both_strands: of DNA, the mean with the vectors of the reverse complement, token by token
            where they are not pooled.
        begin: put the tokenizer's end of text before each sequence; it gets no vector.

    Returns: an iterator of `Embedding`, one a sequence.
    Raises: TypeError and ValueError as `hyena.score`; ValueError if there is no such layer.
    Warns: as `hyena.score`.
    """
    check_model("model", model, LanguageModel)
    check_choice("pool", pool, ("mean", "last", "none"))
    block = block_of(layer, model.config.layers)
    limit = room(model.config)
    reader = Reader(
        model,
        tokenizer,
        both_strands=both_strands,
        on_error=on_error,
        soft_masked=soft_masked,
        most=None if limit is None else limit - (1 if begin else 0),
        begins=begin,
    )
    first = [tokenizer.end_of_text] if begin else []
    runner = _Runner(model, first, block, pool, check_whole("batch", batch))
    return _embeddings(runner, reader.read(sequences))


def dtype_of(model: LanguageModel) -> np.dtype[Any]:
    """Of the vectors that `embed` gives: float32, or float64 if the model has that."""
    own = next(model.parameters()).dtype
    return np.dtype(np.float64 if own == torch.float64 else np.float32)


def block_of(layer: str, layers: int) -> int | None:
    """The number of a block called ``blocks.N``; None for ``norm``.

    Raises: ValueError if a model of so many layers has none of that name.
    """
    if layer == "norm":
        return None
    match = re.fullmatch(r"blocks\.(\d{1,9})", layer) if isinstance(layer, str) else None
    if match is None or int(match[1]) >= layers:
        names = "blocks.0" if layers == 1 else f"blocks.0 … blocks.{layers - 1}"
        raise ValueError(f"layer: expected norm or {names}, got {shown(layer)}")
    return int(match[1])


class _Runner:
    """What is done with tokens: through the model up to a layer, and pooled."""

    def __init__(
        self, model: LanguageModel, first: list[int], block: int | None, pool: Pool, batch: int
    ) -> None:
        self.model, self.batch, self.pool = model, batch, pool
        self._first, self._block = first, block

    def vectors(self, sequences: Sequence[Tokens]) -> list[Vectors]:
        """Of each sequence."""
        found = dict[int, Vectors]()
        lengths = [len(self._first) + len(tokens) for tokens in sequences]
        for places in similar(lengths, self.batch, self.model.config):
            together = self._of_batch([sequences[i] for i in places])
            found.update(zip(places, together, strict=True))
        return [found[i] for i in range(len(sequences))]

    def _of_batch(self, sequences: Sequence[Tokens]) -> list[Vectors]:
        """Of sequences that run together; what the layer made of them is gone before it is run
        again."""
        begin = len(self._first)
        ids, _ = padded(sequences, self._first)
        device = next(self.model.parameters()).device
        x = hidden(self.model, ids.to(device), self._block)
        return [
            self._pooled(row[begin : begin + len(tokens)])
            for row, tokens in zip(x, sequences, strict=True)
        ]

    def _pooled(self, x: Tensor) -> Vectors:
        """x (n, D) as it is asked for."""
        wide = torch.promote_types(x.dtype, torch.float32)
        if self.pool == "last":
            x = x[-1].clone()  # or it would keep all others in memory
        elif self.pool == "mean":
            # In float64, a slice at a time, and on the CPU: MPS has none.
            parts = (part.cpu().double().sum(0) for part in x.split(_SLICE))
            x = sum(parts, torch.zeros(x.shape[1], dtype=torch.float64)) / len(x)
        y = x.to(wide).cpu()
        if not bool(y.sum().isfinite()):
            raise ValueError("the model's values are not finite; its weights may be damaged")
        return y.numpy()


def _embeddings(runner: _Runner, sequences: Generator[Read, None, None]) -> Iterator[Embedding]:
    most = MOST_TOKENS
    if runner.pool == "none":
        of_token = runner.model.config.width * dtype_of(runner.model).itemsize
        most = min(most, _HELD_BYTES // of_token)
    with evaluation_mode(runner.model), closing(sequences):
        for some in waiting(sequences, lambda one: one.size, runner.batch, max(1, most)):
            yield from _of_some(runner, some)


def _of_some(runner: _Runner, some: list[Read]) -> Iterator[Embedding]:
    """Of sequences that wait for each other; at its end none of their vectors are held here."""
    found = iter(runner.vectors([x for one in some for x in one.strands]))
    for one in some:
        of_strands = [next(found) for _ in one.strands]
        if one.skipped is not None:
            yield Embedding(one.index, one.name, skipped=one.skipped)
            continue
        vectors = _mean_of_strands(one.name, of_strands, runner.pool)
        yield Embedding(one.index, one.name, len(one.strands[0]), vectors)


def _mean_of_strands(name: str, vectors: list[Vectors], pool: Pool) -> Vectors:
    """Of one strand or two; what is not pooled in the order of the first, in its memory."""
    forward, *others = vectors
    for reverse in others:
        if forward.shape != reverse.shape:
            raise ValueError(
                f"{name}: its strands have {len(forward)} and {len(reverse)} tokens, which cannot "
                'be paired; take pool "mean"'
            )
        forward += reverse[::-1] if pool == "none" else reverse
        forward *= 0.5
    return forward
