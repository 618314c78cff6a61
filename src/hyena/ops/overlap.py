"""Whether tensors lie in the same memory, whatever their strides."""

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor


def overlaps_itself(x: Tensor) -> bool:
    """Whether two elements of x may lie in the same place; False is certain."""
    if x.is_contiguous():
        return False
    reach = 0  # the furthest element of the dimensions so far
    for stride, size in sorted(zip(x.stride(), x.shape, strict=True)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def names_in_memory_of(x: Tensor, others: Mapping[str, Tensor | None]) -> list[str]:
    """Which of the others have a byte that is one of x."""
    first, end = x.data_ptr(), _end(x)
    found = []
    for name, other in others.items():
        if other is None or (start := other.data_ptr()) >= end:
            continue
        stop = _end(other)
        if first < stop and start < stop and first < end and _meet(x, other):
            found.append(name)
    return found


def _end(x: Tensor) -> int:
    """The address behind the last byte."""
    if x.is_contiguous() or x.numel() == 0:
        return x.data_ptr() + x.nbytes
    last = sum(stride * (size - 1) for stride, size in zip(x.stride(), x.shape, strict=True))
    return x.data_ptr() + (last + 1) * x.element_size()


def _meet(a: Tensor, b: Tensor) -> bool:
    """Whether an element of one is on an element of the other, and not only between two."""
    # With an index i into a and j into b, the sum of i · stride of a − j · stride of b would be the
    # distance from a to b.
    least: dict[int, int] = defaultdict(int)
    most: dict[int, int] = defaultdict(int)
    for x, end in ((a, most), (b, least)):
        end[1] += x.element_size() - 1
        for stride, size in zip(x.stride(), x.shape, strict=True):
            end[stride * x.element_size()] += size - 1
    steps = sorted({*least, *most} - {0}, reverse=True)
    return _reaches(b.data_ptr() - a.data_ptr(), [(s, -least[s], most[s]) for s in steps])


def _reaches(distance: int, steps: list[tuple[int, int, int]]) -> bool:
    """Whether a sum of (step, least, most) · count, least ≤ count ≤ most, is the distance."""
    if not steps:
        return distance == 0
    (step, least, most), *rest = steps
    lowest = sum(s * low for s, low, _ in rest)
    highest = sum(s * high for s, _, high in rest)
    first = max(least, -((highest - distance) // step))
    last = min(most, (distance - lowest) // step)
    return any(_reaches(distance - count * step, rest) for count in range(first, last + 1))
