"""A dimension mapped by torch.func.vmap becomes more channels: each has its own filter anyway."""

from torch import Tensor


def to_front(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension first; a tensor that is not mapped is repeated."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def fold(x: Tensor) -> Tensor:
    """(V, B, D, L) → (B, V·D, L)."""
    return x.movedim(0, 1).flatten(1, 2)


def unfold(x: Tensor, size: int) -> Tensor:
    """(B, V·D, L) → (V, B, D, L)."""
    return x.unflatten(1, (size, -1)).movedim(1, 0)
