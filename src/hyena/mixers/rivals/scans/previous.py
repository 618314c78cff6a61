"""What stood one position before, in the same document.

Sizes: B batch, L length, D channels.
"""

from torch import Tensor
from torch.nn import functional as F

from hyena.ops import Segments


def starts_of(segments: Segments | None) -> Tensor | None:
    """(B, L, 1) bool: where documents begin; None if only rows begin."""
    if segments is None:
        return None
    starts = segments.ids != segments.ids.roll(1, dims=1)
    starts[:, :1] = True
    return starts[..., None]


def previous(x: Tensor, starts: Tensor | None, fill: float = 0.0) -> Tensor:
    """x_{t−1} at position t, and ``fill`` at the first position of a row or document.

    Args: x (…, B, L, D); starts as from `starts_of`.
    """
    shifted = F.pad(x, (0, 0, 1, 0), value=fill)[..., :-1, :]
    return shifted if starts is None else shifted.masked_fill(starts, fill)
