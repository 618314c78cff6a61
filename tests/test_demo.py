"""The demo, in a few steps."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"
COMMANDS = ["prepare", "train", "train", "evaluate", "plot", "generate"]


def demo(tmp_path: Path) -> str:
    result = subprocess.run(
        [sys.executable, DEMO, "--quick", "--data", tmp_path / "data", "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_demo_runs_and_shows_each_command(tmp_path: Path) -> None:
    out = demo(tmp_path)
    assert re.findall(r"^\$ hyena (\w+)", out, flags=re.MULTILINE) == COMMANDS
    assert "stopped after step 4 of 8" in out
    assert re.search(r"bits per byte +\d+\.\d+", out)
    for picture in ("loss.png", "filters.png"):
        assert (tmp_path / "run" / picture).read_bytes().startswith(b"\x89PNG")
    assert "The people of the United States" in out.split("$ hyena generate")[1].split("\n", 1)[1]


def test_ctrl_c_leaves_the_command_the_time_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saving:
        """A command that gets Ctrl-C as the demo does, and ends by itself a little later."""

        args, returncode, waits = (), None, 0

        def __init__(self, words: list[str]) -> None:
            pass

        def wait(self) -> None:
            self.waits += 1
            if self.waits < 3:
                raise KeyboardInterrupt
            self.returncode = 130

    monkeypatch.setattr(subprocess, "Popen", Saving)
    with pytest.raises(subprocess.CalledProcessError) as stopped:
        runpy.run_path(str(DEMO))["hyena"]("train")
    assert stopped.value.returncode == 130
