"""Every process collects the same tests, whenever it does, so that several can share them out.

A name that holds a time, an address in memory or the order of a set is another one in the next
process.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def collected(hash_seed: str) -> list[str]:
    """The names of all tests, from a process of its own, in which sets have their own order."""
    words = ["-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", str(ROOT / "tests")]
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return [line for line in done.stdout.splitlines() if "::" in line]


def test_two_processes_collect_the_same_tests_in_the_same_order() -> None:
    first, second = collected("1"), collected("2")  # a while later
    assert len(first) > 1000
    assert [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]][:5] == []
    assert len(first) == len(second)
