"""Filters of few taps on a piece of a row: behind the last positions of the pieces before it.

Sizes: B batch, C channels, p positions of a piece, K taps.
"""

import torch
from torch import Tensor

from hyena.distributed.exchange import positions
from hyena.distributed.rows import Rows
from hyena.ops import Segments


def with_halo(x: Tensor, rows: Rows, reach: int) -> tuple[Tensor, int, Segments | None]:
    """A piece x (B, C, p) behind the ``reach`` positions before it, or as many as there are.

    They may lie in several pieces, where these are short.

    Returns: (B, C, h + p); h; and the documents of these positions.
    """
    wanted = [(max(start - reach, 0), start) for start, _ in rows.spans]
    first = wanted[rows.rank][0]
    halo = positions(x, rows, wanted)
    return torch.cat([halo, x], dim=-1), rows.start - first, rows.segments_of(first, rows.stop)


def is_less(taps: int, rows: Rows) -> bool:
    """Whether K − 1 positions, sent to all processes but one, are fewer than all there and back, as
    `hyena.distributed.long_conv` sends them."""
    return (taps - 1) * rows.processes <= 2 * rows.length
