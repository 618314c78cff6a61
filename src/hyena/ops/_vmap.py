"""A dimension mapped by torch.func.vmap becomes more channels: each has its own filter anyway."""

from torch import Tensor


def to_front(x: Tensor, dim: int | None, size: int) -> Tensor:
    """The mapped dimension first; a tensor that is not mapped is repeated."""
    return x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)


def fold(x: Tensor, dim: int | None, size: int) -> Tensor:
    """(V, B, D, L) with V at ``dim`` → (B, V·D, L)."""
    return to_front(x, dim, size).movedim(0, 1).flatten(1, 2)


def unfold(x: Tensor, size: int) -> Tensor:
    """(B, V·D, L) → (V, B, D, L)."""
    return x.unflatten(1, (size, -1)).movedim(1, 0)
