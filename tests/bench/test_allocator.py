"""The environments of the two allocators."""

import json
import subprocess
import sys

import pytest

from hyena.bench import allocator
from hyena.bench.allocator import TUNED, describe, environment, why_not_tuned

OUTSIDE = {"PATH": "/bin", "GLIBC_TUNABLES": "glibc.malloc.check=3", "MALLOC_ARENA_MAX": "1"}


def test_default_is_the_default_whatever_is_set_outside() -> None:
    assert environment("default", OUTSIDE) == {"PATH": "/bin"}


def test_tuned_has_its_settings_and_no_others() -> None:
    assert environment("tuned", OUTSIDE) == {"PATH": "/bin", **TUNED}
    assert set(TUNED) == {"GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}


def test_a_process_starts_with_the_tuned_settings() -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment("tuned"), capture_output=True, check=True
    )
    assert TUNED.items() <= json.loads(done.stdout).items()


def test_the_settings_are_told() -> None:
    assert describe("tuned").startswith("glibc, GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_")
    assert describe("default").startswith("the system's default")


def test_without_glibc_there_is_no_tuned_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    assert why_not_tuned() == "the tuned allocator is glibc's, which this system does not have"
