"""The memory that preparing a text takes does not grow with the text or with a document of it."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_PEAK = """
import sys
from pathlib import Path
from hyena.data import PrepareConfig, prepare
import numpy.random
def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
before = peak()
separator = sys.argv[2] or None
prepare(PrepareConfig(sys.argv[1], "out", separator=separator, validation=0, test=0))
print(peak() - before)
"""


@pytest.mark.parametrize("separator", ["", "|"])
def test_memory_does_not_grow_with_the_text(tmp_path, separator):
    part = "We the people of the United Státes" * 300
    with Path(tmp_path / "x.txt").open("w", encoding="utf-8") as stream:
        for _ in range(6_400):
            stream.write(part + separator)
    assert (tmp_path / "x.txt").stat().st_size > 64 << 20
    command = [sys.executable, "-c", _PEAK, "x.txt", separator]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 64  # MiB: the text, let alone its tokens, is not in memory


def test_memory_does_not_grow_with_the_line_of_a_chromosome(tmp_path):
    with Path(tmp_path / "x.fa").open("w") as stream:
        stream.write(">chromosome\n")
        for _ in range(96):
            stream.write("ACGT" * (1 << 18))
    command = [sys.executable, "-c", _PEAK, "x.fa", ""]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert float(done.stdout) < 64  # MiB, of a line of 96
