"""Peak memory of a call."""

from pathlib import Path

import pytest
import torch

from hyena.bench import memory
from hyena.bench.memory import Peak, available, peak_of

MIB = 1 << 20


def test_what_a_call_takes_at_its_peak_is_seen() -> None:
    kept = []

    def call() -> None:
        torch.ones(64 * MIB // 4)  # given back before the end
        kept.append(torch.ones(16 * MIB // 4))

    peak = peak_of(call)
    if isinstance(peak, str):
        pytest.skip(peak)
    assert 60 * MIB <= peak.call <= 110 * MIB
    assert peak.process > peak.call
    small = peak_of(lambda: None)
    assert isinstance(small, Peak)
    assert small.call < 10 * MIB


def test_a_device_counts_what_a_call_takes_beyond_its_inputs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = {"now": 5 * MIB, "peak": 90 * MIB}
    counters = {
        "memory_allocated": lambda: taken["now"],
        "max_memory_allocated": lambda: taken["peak"],
        "reset_peak_memory_stats": lambda: taken.update(peak=taken["now"]),
        "synchronize": lambda: None,
        "get_memory_info": lambda: (10 * MIB, 99 * MIB),
    }
    for name, counter in counters.items():
        monkeypatch.setattr(f"torch.accelerator.{name}", counter)
    assert peak_of(lambda: taken.update(peak=12 * MIB), "cuda") == Peak(7 * MIB, 12 * MIB)
    assert memory.too_large(8 * MIB, "cuda") == ""
    assert memory.too_large(9 * MIB, "cuda") == "may need 0.0 GiB, and 0.0 GiB are free"


def test_a_system_without_proc_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "status")
    assert peak_of(lambda: None) == (
        "peak memory is read from /proc, which this system does not have"
    )


def test_a_mark_that_cannot_be_reset_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/status").is_file():
        pytest.skip("no /proc")
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no folder" / "clear_refs")
    assert peak_of(lambda: None) == (
        "the high-water mark cannot be reset: No such file or directory"
    )


def test_available_memory_is_known_where_the_system_says_it() -> None:
    if not Path("/proc/meminfo").is_file():
        assert available() is None
    else:
        assert (available() or 0) > MIB
