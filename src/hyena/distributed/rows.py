"""Rows that are cut into pieces, one for each process of a group, in the order of their ranks.

Sizes: B batch, L length of the whole rows, P processes.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from torch import Tensor
from torch.distributed import ProcessGroup

from hyena.ops import Segments

Span = tuple[int, int]
"""Positions from the first on, and up to the second without it."""


class Rows:
    """What a process knows of the rows of one pass, of which it has a piece.

    Args:
        group: the P processes.
        rank: of this one in the group.
        lengths: of each process's piece.
        mask: of the whole rows (B, L), True at real tokens; None if all are.
        segments: the documents of the whole rows; None if each row is one.

    Attributes: as given, and ``spans`` of the pieces; ``length`` L; ``start`` and ``stop`` of the
        piece that is here.
    """

    def __init__(
        self,
        group: ProcessGroup,
        rank: int,
        lengths: Sequence[int],
        mask: Tensor | None = None,
        segments: Segments | None = None,
    ) -> None:
        self.group, self.rank, self.lengths = group, rank, tuple(lengths)
        self.mask, self.segments = mask, segments
        ends = list(accumulate(self.lengths))
        self.spans: list[Span] = list(zip([0, *ends], ends, strict=False))
        self.length = ends[-1]
        self.start, self.stop = self.spans[rank]
        self._segments: dict[Span, Segments | None] = {}

    @property
    def processes(self) -> int:
        """P."""
        return len(self.lengths)

    def segments_of(self, start: int, stop: int) -> Segments | None:
        """The documents of these positions, made once for all layers of a pass."""
        if self.segments is None:
            return None
        if (start, stop) not in self._segments:
            found = Segments.from_document_ids(self.segments.ids[:, start:stop])
            self._segments[start, stop] = None if found.trivial else found
        return self._segments[start, stop]

    def channels(self, width: int) -> list[slice]:
        """A range of so many channels for each process, of sizes that differ by one at most."""
        edges = [width * rank // self.processes for rank in range(self.processes + 1)]
        return [slice(a, b) for a, b in pairwise(edges)]
