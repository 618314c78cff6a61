"""Rows that are cut over processes: what a model asks of whoever cuts them.

Sizes: B batch, L length of the whole rows, p positions of the piece that is here, D width.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from hyena.mixers.hyena.cut import Cut
from hyena.mixers.mixer import Room


class Piece(Protocol):
    """What one process has of the rows of one pass."""

    @property
    def reach(self) -> int:
        """L, or the length of the longest packed document."""

    @property
    def longest(self) -> int:
        """Positions of the longest piece, by which all processes choose the same way."""

    @property
    def columns(self) -> Tensor:
        """Where each position of the piece stands in its row or document: (p,) or (B, p)."""

    def mix(
        self, mixer: Any, u: Tensor, mask: Tensor | None, room: Room | None
    ) -> tuple[Tensor, Any]:
        """What a mixer makes of the piece u (B, p, D) beside the others; and with ``room`` the
        state after the whole rows."""

    def between(self, mixer: Any, mask: Tensor | None) -> Cut | None:
        """What lies between the projections of a Hyena operator; None of another mixer."""

    def mean(self, loss: Tensor, targets: Tensor) -> Tensor:
        """The mean loss over the targets of all processes, from that over those that are here."""

    def last(self, x: Tensor) -> Tensor:
        """Of x (B, p, D) the last position of the whole rows, on every process: (B, 1, D)."""


class Context(Protocol):
    """Processes that share rows; `hyena.distributed.ContextParallel` is one."""

    def enter(
        self,
        check: Callable[[], None],
        mixers: Mapping[str, Any],
        input_ids: Tensor,
        mask: Tensor | None,
        document_ids: Any,
        asked: Mapping[str, int],
    ) -> Piece:
        """What this process has of rows, from its piece of them (B, p).

        Args:
            check: raises TypeError or ValueError if something is wrong with the piece.
            mixers: those of the model, by name.
            asked: what else a pass is told, the same on all processes.

        Raises: as ``check``, and ValueError then on every other process; ValueError on every
            process unless all of them were asked for the same, and where a mixer cannot be cut.
        """
