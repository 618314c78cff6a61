"""What holds for every test."""

import gc
from collections.abc import Iterator

import on_device
import pytest
import torch
from hypothesis import settings
from processes import usual_signals

# One thread a process, so that sums are added in one order; the processes run side by side.
torch.set_num_threads(1)

# No test depends on the clock, and a failure comes back on the next run.
settings.register_profile("hyena", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("hyena")


def pytest_configure() -> None:
    on_device.check(on_device.DEVICE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if on_device.DEVICE == "cpu":
        return
    on_device.move_tests(on_device.DEVICE)
    for item in items:
        arguments = item.callspec.params if hasattr(item, "callspec") else {}
        why = on_device.why_not(item.path, item.get_closest_marker("cpu") is not None, arguments)
        if why:
            item.add_marker(pytest.mark.skip(reason=why))


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes name no test: what a packer writes may hold the time, and each process collects its
    own."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_finish() -> None:
    """What there is before the first test lasts as long as the process: Python's collector, which
    benchmarks and tests call, need not look through it each time."""
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _usual_signals() -> Iterator[None]:
    """A script's background ignores SIGINT, which what a test starts would inherit."""
    with usual_signals():
        yield


@pytest.fixture(autouse=True)
def _same_initial_weights() -> None:
    """PyTorch's modules draw their weights from the global generator: it starts anew each test."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    """The source of a test's random inputs."""
    return torch.Generator().manual_seed(0)
