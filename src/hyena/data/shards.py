"""The tokens of a split that are in several files, or in a store, as one array."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .stores import Disk, Remote

MOST_OPEN = 256
"""Shards that are mapped at a time: each takes a file descriptor, of which a process has few."""


class ShardedTokens:
    """Files of tokens, one behind the other, that are read by slices and single places.

    What is in one shard on a disk is a view of its memory map, read-only; all else is a copy.

    Args:
        store: where the files are.
        shards: the name of each, and how many tokens it holds, 1 or more.
        dtype: of the tokens.
    """

    ndim = 1

    def __init__(
        self, store: Disk | Remote, shards: Sequence[tuple[str, int]], dtype: np.dtype[Any]
    ) -> None:
        self.dtype = dtype
        self._store, self._shards = store, list(shards)
        self._ends = np.cumsum([tokens for _, tokens in shards], dtype=np.int64)
        self._open: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @overload
    def __getitem__(self, place: slice) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, place: int) -> Any: ...
    def __getitem__(self, place: slice | int) -> Any:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError(f"tokens in shards are read with a step of 1, got {step}")
            return self._read(start, max(start, stop))
        at = range(len(self))[place]  # a negative one counts from the end, as anywhere
        return self._read(at, at + 1)[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype=dtype)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": OrderedDict()}  # maps belong to a process

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        first = int(np.searchsorted(self._ends, start, side="right"))
        parts = []
        while start < stop:
            end = int(self._ends[first])
            shard = self._shard(first)
            offset = end - len(shard)
            parts.append(shard[start - offset : min(stop, end) - offset])
            start, first = end, first + 1
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.empty(0, self.dtype), *parts])

    def _shard(self, number: int) -> Any:
        if number not in self._open:
            name, tokens = self._shards[number]
            self._open[number] = self._store.tokens(name, self.dtype, tokens)
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        return self._open[number]
