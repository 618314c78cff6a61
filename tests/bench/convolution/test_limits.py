"""The machine's limits, measured, and what they are compared with."""

import pytest

from hyena.bench.convolution.limits import least_traffic, limits, nominal_flops
from hyena.ops.native import library


def test_limits_are_rates() -> None:
    with library.use("none"):
        found = limits(seconds=0.01, size=4096, matrix=8)
    assert set(found) == {"copy", "triad", "matmul", "matmul_bf16"}
    assert all(rate > 0 for rate in found.values())


@pytest.mark.skipif(library.kernel() is None, reason="no native kernel here")
def test_the_multiply_add_mix_is_the_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits(seconds=0.01, size=4096, matrix=8)["multiply_add"] > 0
    monkeypatch.setattr(library, "multiply_add_rate", lambda threads: 1e9 * threads)
    assert limits(seconds=0.01, size=4096, matrix=8)["multiply_add"] == 1e9  # one thread in tests


def test_the_usual_count_of_operations() -> None:
    # Two real transforms of 16 numbers, a product of 9 complex ones, and 3 operations a position.
    assert nominal_flops(2, 8) == 2 * (2 * 2.5 * 16 * 4 + 6 * 9 + 3 * 8)
    assert least_traffic(2, 8) == 4 * 2 * 8 * 6
