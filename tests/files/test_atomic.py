"""Writing is all or nothing."""

import os
from pathlib import Path

import pytest

from hyena.files import atomic


def fill(folder: Path) -> None:
    (folder / "a").write_text("one")
    (folder / "inner").mkdir()
    (folder / "inner" / "b").write_text("two")


def test_a_folder_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    rename, sync = os.rename, os.fsync

    def watched_rename(source: Path, target: Path) -> None:
        assert not (tmp_path / "new").exists()
        events.append("rename")
        rename(source, target)

    def watched_sync(descriptor: int) -> None:
        events.append("sync")
        sync(descriptor)

    monkeypatch.setattr(os, "rename", watched_rename)
    monkeypatch.setattr(os, "fsync", watched_sync)
    atomic.write_folder(tmp_path / "new", fill)
    # Two files, two folders, then the name, then the folder that holds the name.
    assert events == ["sync"] * 4 + ["rename", "sync"]
    assert (tmp_path / "new" / "inner" / "b").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write_folder(tmp_path / "new", fail)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_an_earlier_attempt_do_not_get_in(tmp_path: Path) -> None:
    (tmp_path / "new.tmp").mkdir()
    (tmp_path / "new.tmp" / "stale").write_text("stale")
    atomic.write_folder(tmp_path / "new", fill)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a", "inner"]


def test_a_file_is_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def fail(*_: object) -> None:
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="no"):
            atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    atomic.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_half_removed_folder_has_lost_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic.write_folder(tmp_path / "old", fill)

    def fail(path: Path) -> None:
        assert not (tmp_path / "old").exists()
        (path / "a").unlink()
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(atomic.shutil, "rmtree", fail)
        with pytest.raises(OSError, match="no"):
            atomic.remove_folder(tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old.tmp"]
    (tmp_path / "file.tmp").write_text("")
    (tmp_path / "mine.tmp").write_text("")
    atomic.remove_temporary(tmp_path, "old", "fil*")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.tmp"]


def test_files_that_belong_together_are_all_old_or_all_new(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("no")

    both = {"a": lambda path: path.write_text("old"), "b": lambda path: path.write_text("old")}
    atomic.write_files(tmp_path / "new" / "folder", both)
    with pytest.raises(OSError, match="no"):
        atomic.write_files(tmp_path / "new" / "folder", {**both, "b": fail, "c": fail})
    found = {path.name: path.read_text() for path in (tmp_path / "new" / "folder").iterdir()}
    assert found == {"a": "old", "b": "old"}


def test_a_failed_first_write_takes_its_empty_folders_away(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        atomic.write_files(tmp_path / "new" / "folder", {"a": fail})
    assert list(tmp_path.iterdir()) == []

    def fail_beside(path: Path) -> None:
        (path.parent.parent / "mine").write_text("of somebody else")
        fail(path)

    with pytest.raises(OSError, match="no"):
        atomic.write_files(tmp_path / "new" / "folder", {"a": fail_beside})
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "mine"]


def test_of_a_link_to_a_folder_the_link_is_removed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    atomic.remove_folder(tmp_path / "link")
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]
