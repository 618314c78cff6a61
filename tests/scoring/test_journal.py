"""Results that are kept until all are there: nothing half-written, nothing twice, nothing lost."""

import contextlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena.scoring.journal import ENDING, Journal, journal, state_of

WORK = {"model": "a", "reduce": "sum", "window": None}


def rows(start: int, end: int) -> list[dict[str, Any]]:
    return [{"index": i, "name": f"é{i}", "score": i / 7} for i in range(start, end)]


def vectors(i: int) -> np.ndarray:
    return np.full((i + 1, 2), i, dtype=np.float32)


def interrupted(out: Path, start: int, end: int) -> None:
    """Results from one to another, and no further."""
    with contextlib.suppress(KeyboardInterrupt), journal(out, WORK) as kept:
        assert kept.done == start
        for i in range(start, end):
            kept.append(rows(i, i + 1), vectors(i))
        raise KeyboardInterrupt


def test_an_interruption_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    interrupted(out, 0, 3)
    interrupted(out, 3, 3)
    interrupted(out, 3, 7)
    assert not out.exists()
    with journal(out, WORK) as kept:
        assert kept.done == 7
        kept.append(rows(7, 9))  # two rows of one input, without vectors
        assert list(kept.rows()) == rows(0, 9)
        found = np.fromfile(kept.vectors, dtype=np.float32)
        np.testing.assert_array_equal(found, np.concatenate([vectors(i) for i in range(7)]).ravel())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_what_a_crash_left_half_written_is_cut_off(cut: int, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    interrupted(out, 0, 4)
    folder = tmp_path / f"out.jsonl{ENDING}"
    for name in ("entries.jsonl", "vectors.bin"):
        file = folder / name
        if cut % 2 or name == "entries.jsonl":
            os.truncate(file, file.stat().st_size - cut)
    with contextlib.suppress(KeyboardInterrupt), journal(out, WORK) as kept:
        assert kept.done < 4
        assert list(kept.rows()) == rows(0, kept.done)
        there = sum(vectors(i).nbytes for i in range(kept.done))
        assert kept.vectors.stat().st_size == there
        for i in range(kept.done, 5):
            kept.append(rows(i, i + 1), vectors(i))
        assert list(kept.rows()) == rows(0, 5)
        raise KeyboardInterrupt


def test_an_error_before_the_first_result_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), journal(tmp_path / "out.jsonl", WORK):
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    with (
        pytest.raises(FileExistsError, match="is there already; remove it, or"),
        journal(out, WORK),
    ):
        pass
    assert out.read_text() == "mine"


def test_results_of_other_work_are_not_gone_on_with(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    interrupted(out, 0, 2)
    other = {**WORK, "reduce": "mean", "window": 8}
    message = (
        "the beginning of other results: reduce was 'sum', is 'mean'; window was None, is 8; r"
    )
    with pytest.raises(FileExistsError, match=message), journal(out, other):
        pass
    interrupted(out, 2, 3)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / f"out.jsonl{ENDING}"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    message = "holds thesis.txt, which is none of this command's; remove"
    with pytest.raises(FileExistsError, match=message), journal(tmp_path / "out.jsonl", WORK):
        pass
    assert (folder / "thesis.txt").read_text() == "years of work"


@pytest.mark.skipif(os.name == "nt", reason="no locks there")
def test_two_commands_do_not_write_one_output(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with journal(out, WORK) as kept:
        kept.append(rows(0, 1))
        with pytest.raises(RuntimeError, match="another run is using"), journal(out, WORK):
            pass


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "out.partial"
    folder.mkdir()
    (folder / "work.json").write_text('{"format_version": 9}')
    with pytest.raises(ValueError, match="has format version 9, but this hyena reads 1"):
        Journal(folder, WORK)


def test_the_state_of_files_changes_when_one_is_written(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "weights"
    file.write_text("a")
    before = state_of(tmp_path / "model"), state_of(file)
    assert before == (state_of(tmp_path / "model"), state_of(file))
    partial = tmp_path / "model" / f"out.jsonl{ENDING}"
    partial.mkdir()
    (partial / "work.json").touch()
    assert state_of(tmp_path / "model") == before[0]
    file.write_text("bc")
    assert state_of(tmp_path / "model") != before[0]
    assert state_of(file) != before[1]


def test_what_a_killed_removal_left_is_cleared_away(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    left = tmp_path / f"out.jsonl{ENDING}.tmp"
    left.mkdir()
    (left / "entries.jsonl").write_text("{}")
    with journal(out, WORK) as kept:
        kept.append(rows(0, 1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_a_full_disk_is_told_with_the_folder_that_is_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    interrupted(out, 0, 2)

    def full(self: Journal) -> Any:
        return Path("/dev/full").open("ab"), Path("/dev/full").open("ab")

    monkeypatch.setattr(Journal, "_opened", full)
    message = r"out\.jsonl\.partial cannot be written: No space left on device; free space"
    for values in (None, vectors(2)):
        with pytest.raises(OSError, match=message), journal(out, WORK) as kept:
            kept.append(rows(2, 3), values)
    monkeypatch.undo()
    interrupted(out, 2, 4)


NO_ENTRIES = {
    "number": '{"rows": 1.5, "bytes": 0}',
    "numbers": '{"rows": [1], "bytes": 0}',
    "negative": '{"rows": [], "bytes": -8}',
    "fraction": '{"rows": [], "bytes": 0.5}',
    "list": "[]",
    "short": '{"rows": []}',
    "cut": "{",
    "deep": "[" * 100_000,
    "zero": "\0",
}


@pytest.mark.parametrize("name", NO_ENTRIES)
def test_an_entry_that_is_none_is_cut_off_with_all_after_it(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    interrupted(out, 0, 4)
    file = tmp_path / f"out.jsonl{ENDING}" / "entries.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], NO_ENTRIES[name], *lines[3:]]) + "\n")
    interrupted(out, 2, 5)
    with journal(out, WORK) as kept:
        assert list(kept.rows()) == rows(0, 5)
        found = np.fromfile(kept.vectors, dtype=np.float32)
        np.testing.assert_array_equal(found, np.concatenate([vectors(i) for i in range(5)]).ravel())


def changed(name: str, folder: Path) -> None:
    """Results of four inputs of which the third is not what was written."""
    file = folder / ("vectors.bin" if name.endswith("vectors") else "entries.jsonl")
    data = file.read_bytes()
    if name == "vectors":
        at = vectors(0).nbytes + vectors(1).nbytes
        file.write_bytes(data[:at] + b"\1" + data[at + 1 :])
        return
    if name == "moved vectors":
        at = vectors(0).nbytes + vectors(1).nbytes
        file.write_bytes(data[:at] + data[at + 4 :] + data[at : at + 4])
        return
    lines = data.splitlines(keepends=True)
    if name == "rows":
        assert b"0.2857142857142857" in lines[2]
        lines[2] = lines[2].replace(b"0.2857142857142857", b"0.2857142857142858")
    elif name == "name":
        lines[2] = lines[2].replace(rb"\u00e92", b"x")
    elif name == "digest":
        lines[2] = lines[2].replace(b'"sha256": "', b'"sha256": "0')
    elif name == "swapped":
        lines[2:] = lines[:1:-1]
    elif name == "first again":
        lines[2] = lines[0]
    else:
        del lines[2]
    file.write_bytes(b"".join(lines))


@pytest.mark.parametrize(
    "name",
    ["rows", "name", "digest", "swapped", "first again", "lacks", "vectors", "moved vectors"],
)
def test_results_that_were_changed_are_made_again_with_those_after_them(
    name: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    interrupted(out, 0, 4)
    changed(name, tmp_path / f"out.jsonl{ENDING}")
    with contextlib.suppress(KeyboardInterrupt), journal(out, WORK) as kept:
        assert (kept.done, kept.lost) == (2, 1 if name == "lacks" else 2)
        assert list(kept.rows()) == rows(0, 2)
        raise KeyboardInterrupt
    interrupted(out, 2, 5)
    with journal(out, WORK) as kept:
        assert (kept.done, kept.lost) == (5, 0)
        assert list(kept.rows()) == rows(0, 5)
        found = np.fromfile(kept.vectors, dtype=np.float32)
        np.testing.assert_array_equal(found, np.concatenate([vectors(i) for i in range(5)]).ravel())


def test_vectors_of_any_layout_are_written_as_they_are_read(tmp_path: Path) -> None:
    out, whole = tmp_path / "out.jsonl", np.arange(24, dtype=np.float32).reshape(4, 6)
    parts = [whole.T, whole[:, ::2], whole[1:1], whole]
    with contextlib.suppress(KeyboardInterrupt), journal(out, WORK) as kept:
        for i, part in enumerate(parts):
            kept.append(rows(i, i + 1), part)
        raise KeyboardInterrupt
    with journal(out, WORK) as kept:
        assert (kept.done, kept.lost) == (4, 0)
        found = np.fromfile(kept.vectors, dtype=np.float32)
        np.testing.assert_array_equal(found, np.concatenate([part.ravel() for part in parts]))
