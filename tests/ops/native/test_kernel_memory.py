"""The kernel's memory in C++: what happens when it runs out, and how much is asked for."""

from pathlib import Path

import pytest
from test_sanitizers import COMPILER, SOURCES, compile, run, skip_without


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_memory_that_runs_out(tmp_path: Path) -> None:
    """In two threads at once, and for the tables of a transform: an answer, and no exception."""
    skip_without("thread", tmp_path)
    program = tmp_path / "memory"
    # Inlined everywhere, as it is for speed, the kernel would take minutes to compile.
    flags = ["-fsanitize=thread", "-O0", "-Dalways_inline=unused", "-ffp-contract=fast", "-pthread"]
    compile(*flags, "-I", SOURCES, Path(__file__).with_name("memory.cpp"), "-o", program)
    done = run(program)
    assert (done.stdout, done.stderr, done.returncode) == ("0 failures\n", "", 0)
