"""PyTorch's threads, several Python threads at once, and processes that fork."""

import ctypes
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import with_gradients
from kernel_cases import draw, native
from torch import Tensor

from hyena.ops import Segments, filter_spectrum, gated_conv, long_conv, short_conv
from hyena.ops.native import library

SIZES = [  # B, D, L
    (1, 1, 1),
    (4, 3, 50),
    (2, 1000, 30),  # in lanes, enough for several threads
    (1, 200, 384),
    (1, 5, 5000),
    (3, 40, 700),
    (2, 7, 20000),
    (9, 1, 3000),  # few channels and many rows, which fall into groups
    (40, 2, 1000),
    (17, 20, 200),
]


def everything(B: int, D: int, L: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """What each function of the kernel gives at these sizes."""
    inputs = draw(B, D, L, L, dtype=dtype)
    z, k, skip, taps, bias = inputs
    ids = torch.arange(L).div(37, rounding_mode="floor").expand(B, L)
    segments = Segments.from_document_ids(ids)
    few = k[:, : max(1, min(L // 5, 100))]  # which are summed in the time domain
    kept = filter_spectrum(k, L, skip, backend="native")
    return [
        *with_gradients(native(), *inputs),
        *with_gradients(native(segments=segments), *inputs),
        *with_gradients(native(), z, few, skip, taps, bias),
        *with_gradients(native(segments=segments), z, few, skip),
        *with_gradients(lambda *x: short_conv(*x, backend="native"), z, taps, bias),
        *with_gradients(lambda *x: short_conv(*x, backend="native"), z, taps.tile(1, 7), bias),
        kept.values,
        gated_conv(z, kept, backend="native"),
        long_conv(z[:, :D], kept, backend="native"),
    ]


def assert_same(got: list[Tensor], expected: list[Tensor]) -> None:
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("isa", "two_threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("B", "D", "L"), SIZES)
def test_the_number_of_threads_changes_no_bit(B: int, D: int, L: int, dtype: torch.dtype) -> None:
    """Threads share out channels and groups of rows, and each is summed in one order."""
    got = everything(B, D, L, dtype)
    for threads in (1, 5):
        torch.set_num_threads(threads)
        assert_same(everything(B, D, L, dtype), got)


PARALLEL_FOR = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    *3 * [ctypes.c_int64],
    ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p),
    ctypes.c_void_p,
)


THREAD_COUNT = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(ctypes.c_uint32))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("B", "D", "L"), SIZES)
def test_any_split_of_the_work_gives_the_same(B: int, D: int, L: int) -> None:
    """The kernel leaves it to PyTorch who does what, and when."""
    expected = everything(B, D, L)
    offered = []

    @PARALLEL_FOR
    def backwards(begin: int, end: int, grain: int, task: Any, context: int) -> int:
        offered.append((begin, end, grain))
        for i in reversed(range(begin, end)):
            task(i, i + 1, context)
        return 0

    @THREAD_COUNT
    def four(count: Any) -> int:
        count[0] = 4
        return 0

    loaded = ctypes.CDLL(str(library.find()))
    loaded.hyena_kernel_set_threads(backwards, four)
    try:
        got = everything(B, D, L)
    finally:
        library._share_threads(loaded)
    assert_same(got, expected)
    assert bool(offered) == (B * D * L > 20000)  # what is small is done at once
    assert all(begin == 0 and end > grain >= 1 for begin, end, grain in offered)


@pytest.mark.usefixtures("isa", "two_threads")
def test_calls_at_once_give_what_they_give_alone() -> None:
    sizes = SIZES[:6]
    expected = [everything(*size) for size in sizes]
    with ThreadPoolExecutor(4) as pool:
        calls = [(i, pool.submit(everything, *sizes[i])) for _ in range(4) for i in range(6)]
        calls += [(3, pool.submit(everything, *sizes[3])) for _ in range(8)]  # the same all over
        for i, call in calls:
            assert_same(call.result(timeout=300), expected[i])


@pytest.mark.usefixtures("isa", "two_threads")
def test_calls_at_once_with_one_input() -> None:
    """Nobody writes to what they share."""
    z, k, skip, taps, bias = draw(2, 30, 600, 600)
    kept = filter_spectrum(k, 600, skip, backend="native")
    expected = gated_conv(z, kept, short=(taps, bias))
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(gated_conv, z, kept, short=(taps, bias), backend="native")
            for _ in range(40)
        ]
        for call in calls:
            assert torch.equal(call.result(timeout=300), expected)


FIRST_USE = """
import threading
import torch
from hyena.ops import filter_spectrum, gated_conv

torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
lengths = [3, 24, 160, 300, 600, 1500, 5000]
inputs = [(torch.randn(1, 12, L, generator=generator), torch.randn(4, L)) for L in lengths]
results, start = {}, threading.Barrier(8)

def work(thread):
    for i, (z, k) in enumerate(inputs):
        start.wait(60)  # all of them come to a size that was never used before
        results[thread, i] = gated_conv(z, k), filter_spectrum(k, z.shape[-1]).values

threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
for i, (z, k) in enumerate(inputs):
    expected = gated_conv(z, k), filter_spectrum(k, z.shape[-1]).values
    for t in range(8):
        assert all(map(torch.equal, results[t, i], expected))
"""

FORK = """
import os
import signal
import warnings
import torch
from hyena.ops import gated_conv

warnings.simplefilter("ignore")  # of Python, about forks of a process with threads
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
z, k = (torch.randn(s, generator=generator) for s in ((2, 30, 5000), (10, 5000)))
leaf = k.requires_grad_()
def both():
    y = gated_conv(z, leaf)
    return y.detach(), torch.autograd.grad(y.sum(), leaf)[0]
expected = both()  # the parent's threads are at work by now
child = os.fork()
if child == 0:
    signal.alarm(100)  # ends a child that hangs
    torch.set_num_threads(1)
    os._exit(0 if all(map(torch.equal, both(), expected)) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert all(map(torch.equal, both(), expected))
"""


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_threads_that_come_first_to_a_size_together() -> None:
    run(FIRST_USE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_with_one_thread() -> None:
    run(FORK)


LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset
from hyena.ops import long_conv

class Smoothed(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, i):
        u = torch.randn(1, 3, 2000, generator=torch.Generator().manual_seed(i))
        return long_conv(u, torch.ones(3, 2000))[0]

if __name__ == "__main__":
    torch.set_num_threads(2)
    alone = torch.stack([Smoothed()[i] for i in range(8)])
    assert torch.equal(torch.cat(list(DataLoader(Smoothed(), 2, num_workers=2))), alone)
"""


def test_in_the_workers_of_a_data_loader(tmp_path: Path) -> None:
    """Which are forked where the system can, and have one thread."""
    program = tmp_path / "loader.py"
    program.write_text(LOADER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, "")
