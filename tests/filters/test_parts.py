"""What is long is cut into parts that leave nothing out."""

from hyena.filters.parts import slices


def test_slices_cover_everything_once() -> None:
    for count in range(40):
        for memory in (0, 1, 3, 10, 29, 1000):
            found = slices(count, 3, memory)
            assert [i for s in found for i in range(s.start, s.stop)] == list(range(count))
            assert all(3 * (s.stop - s.start) <= max(memory, 3) for s in found)
            sizes = [s.stop - s.start for s in found]
            assert max(sizes, default=0) - min(sizes, default=0) <= 1
