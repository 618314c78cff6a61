"""A list of digests finds every change, and lists what is read."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hyena.files import digests


def test_a_change_of_a_listed_file_is_found(tmp_path: Path) -> None:
    digests.write_files(tmp_path, {"a": lambda path: path.write_text("one")})
    (tmp_path / "b").write_text("two")
    digests.check(tmp_path, advice="do")
    digests.complete(tmp_path, {"b": digests.sha256_of(tmp_path / "b")})
    (tmp_path / "c").write_text("not listed")
    digests.check(tmp_path, advice="do")
    (tmp_path / "b").write_text("twO")
    digests.check(tmp_path, ["a", "absent"], advice="do")
    with pytest.raises(
        ValueError, match=r"SHA256SUMS does not list c, so it is another folder's; do"
    ):
        digests.check(tmp_path, ["a", "c"], advice="do")
    with pytest.raises(
        ValueError, match=r"b is damaged: its SHA-256 is not that in SHA256SUMS; do"
    ):
        digests.check(tmp_path, advice="do")
    (tmp_path / "b").unlink()
    with pytest.raises(ValueError, match=r"b is missing, though SHA256SUMS lists it; do"):
        digests.check(tmp_path, advice="do")


def test_a_list_that_is_none_is_refused(tmp_path: Path) -> None:
    digests.check(tmp_path, advice="do")
    for text in ("x", "0" * 64 + "  ../a", "0" * 63 + "  a"):
        (tmp_path / "SHA256SUMS").write_text(text)
        with pytest.raises(ValueError, match=r"SHA256SUMS is damaged: '.*; restore it from a copy"):
            digests.check(tmp_path, advice="do")
    (tmp_path / "SHA256SUMS").write_text("")
    with pytest.raises(ValueError, match=r"SHA256SUMS is damaged: it is empty; restore it from a "):
        digests.check(tmp_path, advice="do")


def test_an_older_list_does_not_outlive_its_files(tmp_path: Path) -> None:
    digests.write_files(tmp_path, {"a": lambda path: path.write_text("one")})
    digests.write_files(tmp_path, {"a": lambda path: path.write_text("two")})
    digests.check(tmp_path, advice="do")


def _complaint(folder: Path) -> str:
    try:
        digests.check(folder, ("a", "b"), advice="restore it")
    except ValueError as error:
        return str(error)
    return ""


_KILLED = """
import os, signal, sys
from pathlib import Path
from hyena.files import digests

moments = 0
def watched(function, last):
    def call(*arguments):
        global moments
        moments += 1
        if moments == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

write = {name: lambda path: path.write_text("new") for name in ("a", "b")}
for folder in sys.argv[1:]:  # named by its moment; each in a process of its own
    child = os.fork()
    if child == 0:
        last = int(Path(folder).name)
        os.fsync, os.replace = watched(os.fsync, last), watched(os.replace, last)
        digests.write_files(Path(folder), write)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize("before", ["nothing", "older files"])
def test_a_write_that_is_killed_leaves_old_files_new_ones_or_a_way_to_them(
    tmp_path: Path, before: str
) -> None:
    # Three files are forced to the disk and renamed, then the folder.
    folders = [tmp_path / str(moment) for moment in range(1, 8)]
    for folder in folders:
        folder.mkdir()
        if before != "nothing":
            names = ("a", "b")
            digests.write_files(folder, {n: lambda path: path.write_text("old") for n in names})
    command = [sys.executable, "-c", _KILLED, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 7, done.stderr
    seen = []
    for folder in folders:
        advice = digests.cut_off(folder)
        told = _complaint(folder)
        if told:
            assert told.endswith("that end in .tmp to their names without it")
        if advice:
            for file in folder.glob("*.tmp"):
                file.rename(file.with_suffix(""))
            assert _complaint(folder) == ""
        texts = {f.name: f.read_text() for f in folder.iterdir() if f.name in ("a", "b")}
        assert len(set(texts.values())) <= 1
        seen.append((bool(advice), bool(told), *texts.values()))
    old = () if before == "nothing" else ("old", "old")
    lost = before != "nothing"
    assert seen == [
        (False, False, *old),
        (False, False, *old),
        (True, False, "new", "new"),
        (True, False, "new", "new"),
        (True, lost, "new", "new"),
        (True, lost, "new", "new"),
        (False, False, "new", "new"),
    ]
    unfinished = tmp_path / "6"
    (unfinished / "SHA256SUMS.tmp").write_text("0" * 64 + "  a\n")
    assert digests.cut_off(unfinished) == ""
