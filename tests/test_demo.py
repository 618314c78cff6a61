"""The demo, in a few steps."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from hyena.cli import main

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"
COMMANDS = ["prepare", "train", "train", "evaluate", "plot", "generate"]


class Here:
    """A command that runs in this process, where PyTorch is loaded already."""

    args, returncode = (), None

    def __init__(self, words: list[str]) -> None:
        assert words[:3] == [sys.executable, "-m", "hyena"]
        self.words = words[3:]

    def wait(self) -> None:
        self.returncode = main(self.words)


def test_the_demo_runs_and_shows_each_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--quick", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", [str(DEMO), *words])
    monkeypatch.setattr(subprocess, "Popen", Here)
    assert runpy.run_path(str(DEMO))["main"]() == 0
    out = capfd.readouterr().out
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
