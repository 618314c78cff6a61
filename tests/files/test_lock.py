"""One process at a time in a folder."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from hyena.files.folder import locked

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no locks there")


def refusal(folder: Path) -> str:
    return rf"^another run is using {folder}; wait for it or stop it first$"


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from hyena.files.folder import locked\n"
        "with locked(pathlib.Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"locked\n"
    with pytest.raises(RuntimeError, match=refusal(tmp_path)), locked(tmp_path):
        pass
    process.kill()
    process.communicate()
    with locked(tmp_path):
        pass


def test_a_folder_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    for folder, stays in ((tmp_path / "new", False), (tmp_path / "used", True), (tmp_path, True)):
        with contextlib.suppress(KeyError), locked(folder):
            if folder.name == "used":
                (folder / "file").touch()
            raise KeyError
        assert folder.exists() == stays
