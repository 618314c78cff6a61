"""A list of digests finds every change, and lists what is read."""

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
