"""What make would run."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("targets", "extras"),
    [
        (["demo"], "demo"),
        (["venv", "demo"], "test,lint,docs"),
        (["demo", "lint"], "test,lint,docs"),
        (["demo", "clean"], "demo"),
    ],
)
def test_one_installation_at_a_time(targets: list[str], extras: str, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "CMakeLists.txt"):
        shutil.copy(ROOT / name, tmp_path)
    command = ["make", "--dry-run", "--jobs", "2", *targets]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert [line.split("'")[1] for line in said.splitlines() if "-e '" in line] == [f".[{extras}]"]
