"""How many bytes the filters of a model keep between calls, one number for all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet

from hyena.arguments import check_whole

KEPT_MEMORY = 1 << 28
"""Bytes; a machine of 8 GiB has them to spare, and a model of 125M parameters keeps all spectra of
2,048 positions."""


class Keeper(Protocol):
    """What keeps values within a budget."""

    @property
    def nbytes(self) -> int:
        """Of what it keeps."""


class Budget:
    """Bytes that all who share it keep together.

    Who comes first keeps, and goes on keeping: nobody's values make room for another's, so that a
    budget for half of a model's layers keeps those of half at each pass.

    Raises: ValueError unless ``limit`` is a whole number of bytes from 0 on.
    """

    def __init__(self, limit: int = KEPT_MEMORY) -> None:
        self.limit = check_whole("kept_memory", limit, 0, None)
        self._keepers: WeakSet[Keeper] = WeakSet()
        self._lock = threading.Lock()

    def join(self, keeper: Keeper) -> None:
        """Counts what it keeps, as long as it lives."""
        with self._lock:
            self._keepers.add(keeper)

    @property
    def left(self) -> int:
        """Bytes; below 0 where more is kept than there is room for."""
        with self._lock:
            keepers = list(self._keepers)
        return self.limit - sum(keeper.nbytes for keeper in keepers)

    def __deepcopy__(self, memo: dict[int, Any]) -> Budget:
        return Budget(self.limit)

    def __reduce__(self) -> tuple[Callable[..., Budget], tuple[int]]:
        return Budget, (self.limit,)
