"""The processes of a run share the tests out, and refuse to where they collected different ones.

A name that holds a time, an address in memory or the order of a set is another one in the next
process. So every run of a suite checks that no test has such a name.
"""

import os
import subprocess
import sys
from pathlib import Path

LETTERS = """
import pytest


@pytest.mark.parametrize("letter", set("abcdefghijklmnopqrstuvwxyz"))
def test_a_letter(letter):
    pass
"""


def test_processes_that_collected_different_tests_run_none(tmp_path: Path) -> None:
    (tmp_path / "test_letters.py").write_text(LETTERS)
    ours = ("PYTEST", "PYTHONHASHSEED")  # of the processes that this test runs in
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", "test_letters.py"],
        env={name: value for name, value in os.environ.items() if not name.startswith(ours)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "Different tests were collected between gw" in done.stdout
    assert "passed" not in done.stdout
