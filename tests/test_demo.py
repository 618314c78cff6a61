"""The demo, in a few steps."""

import os
import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parent.parent / "examples" / "demo.py"
COMMANDS = ["prepare", "train", "train", "evaluate", "plot", "generate"]


def demo(tmp_path: Path) -> str:
    result = subprocess.run(
        [sys.executable, DEMO, "--quick", "--data", tmp_path / "data", "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_demo_runs_shows_each_command_and_goes_on_where_it_was(tmp_path: Path) -> None:
    out = demo(tmp_path)
    assert re.findall(r"^\$ hyena (\w+)", out, flags=re.MULTILINE) == COMMANDS
    assert "stopped after step 4 of 8" in out
    assert re.search(r"bits per byte +\d+\.\d+", out)
    for picture in ("loss.png", "filters.png"):
        assert (tmp_path / "run" / picture).read_bytes().startswith(b"\x89PNG")
    assert "The people of the United States" in out.split("$ hyena generate")[1].split("\n", 1)[1]

    again = demo(tmp_path)  # nothing is trained twice
    commands = re.findall(r"^\$ hyena (\w+)", again, flags=re.MULTILINE)
    assert commands == ["prepare", "train", "evaluate", "plot", "generate"]
