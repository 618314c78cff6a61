"""These tests are of the native kernel: without one they are skipped."""

from collections.abc import Iterator

import pytest
import torch

from hyena.ops.native import library


@pytest.fixture(autouse=True)
def _a_kernel() -> None:
    if library.kernel() is None:
        pytest.skip(f"no native kernel: {library.why_not()}")


@pytest.fixture(params=library.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each build that this processor can run, in use."""
    with library.use(request.param):
        yield request.param


@pytest.fixture
def poisoned() -> Iterator[None]:
    """New memory is full of NaN, so that whatever is not written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert bool(torch.empty(9).isnan().all())
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch's threads, which are the kernel's."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
