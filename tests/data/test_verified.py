"""What was compared once is not read again; what was written since is."""

import json
import os
import shutil

import pytest

from hyena.cli import main
from hyena.data import PrepareConfig, open_tokens, prepare, verified, verify


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set that is as large as those whose files are remembered, and was written long ago."""
    monkeypatch.setattr(verified, "REMEMBERED_FROM", 1)
    (tmp_path / "x.txt").write_text("|".join(f"text {i}" for i in range(30)))
    config = PrepareConfig(tmp_path / "x.txt", tmp_path / "out", separator="|", shard_bytes=60)
    return settled(prepare(config).directory)


def settled(folder):
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))
    return folder


def read_by(action, monkeypatch):
    """The files that an action reads to compare them."""
    names, sha256_of = [], verified.sha256_of

    def note(file):
        names.append(file.name)
        return sha256_of(file)

    with monkeypatch.context() as patch:
        patch.setattr(verified, "sha256_of", note)
        action()
    return sorted(names)


def flip(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def test_only_what_was_written_since_is_read_again(folder, monkeypatch):
    first = read_by(lambda: open_tokens(folder, "train"), monkeypatch)
    assert first == sorted(file.name for file in folder.glob("train-*"))
    assert read_by(lambda: open_tokens(folder, "train"), monkeypatch) == []
    os.utime(folder / "train-00001.bin", (2e9 - 1e9, 1e9 + 5))
    assert read_by(lambda: open_tokens(folder, "train"), monkeypatch) == ["train-00001.bin"]
    flip(folder / "train-00002.bin")
    with pytest.raises(ValueError, match=r"train-00002\.bin is damaged: its SHA-256"):
        open_tokens(folder, "train")
    flip(folder / "train-00002.bin")
    assert read_by(lambda: open_tokens(folder, "train"), monkeypatch) == ["train-00002.bin"]
    # It was written just now, and might be again with the same time.
    assert read_by(lambda: open_tokens(folder, "train"), monkeypatch) == ["train-00002.bin"]


def test_a_copy_is_read_though_it_has_size_and_time_of_the_original(folder, tmp_path, monkeypatch):
    open_tokens(folder, "train")
    copy = shutil.copytree(folder, tmp_path / "copy")  # with times, and with what is remembered
    assert (copy / verified.VERIFIED_FILE).is_file()
    names = read_by(lambda: open_tokens(copy, "train"), monkeypatch)
    assert names == sorted(file.name for file in folder.glob("train-*"))


def test_small_data_are_read_each_time(folder, monkeypatch):
    monkeypatch.setattr(verified, "REMEMBERED_FROM", 1 << 20)
    for _ in range(2):
        assert read_by(lambda: open_tokens(folder, "test"), monkeypatch) != []
    assert not (folder / verified.VERIFIED_FILE).exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"train-00000.bin": 3}', "[" * 100_000])
def test_what_is_remembered_may_be_damaged(folder, monkeypatch, content):
    (folder / verified.VERIFIED_FILE).write_text(content)
    assert read_by(lambda: open_tokens(folder, "train"), monkeypatch) != []
    assert "train-00000.bin" in json.loads((folder / verified.VERIFIED_FILE).read_text())


def test_verify_reads_everything_and_names_all_that_is_damaged(folder):
    for split in ("train", "validation", "test"):
        open_tokens(folder, split)
    whole = verify(folder)
    files = [file for file in folder.iterdir() if file.name != verified.VERIFIED_FILE]
    assert (whole.files, whole.damaged) == (len(files) - 1, {})  # all but the list itself
    for name in ("train-00001.bin", "tokenizer.hyena.json"):
        status = (folder / name).stat()
        flip(folder / name)
        os.utime(folder / name, ns=(status.st_atime_ns, status.st_mtime_ns))  # as if by itself
    open_tokens(folder, "train")  # of a bit that changed by itself nothing can be seen here
    seen = []
    found = verify(folder, progress=lambda done, total: seen.append((done, total)))
    assert sorted(found.damaged) == ["tokenizer.hyena.json", "train-00001.bin"]
    assert seen[-1] == (found.files, found.files) == (whole.files, whole.files)


def test_the_command_names_what_is_damaged(folder, capsys):
    assert main(["data", "verify", str(folder)]) == 0
    assert f"{folder}: {verify(folder).files} files as written, " in capsys.readouterr().out
    flip(folder / "train-00001.bin")
    (folder / "train-00002.documents.npy").unlink()
    assert main(["data", "verify", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert sorted(out.splitlines()) == [
        "train-00001.bin: its SHA-256 is not the one that was written down",
        "train-00002.documents.npy: it is missing",
    ]
    assert err.startswith("error: 2 of ")
    assert err.count("\n") == 1
    flip(folder / "manifest.json")
    assert main(["data", "verify", str(folder)]) == 1
    assert "manifest.json is damaged" in capsys.readouterr().err
    assert main(["data", "verify", f"{folder}/absent"]) == 1
    assert "does not exist; make them with `hyena prepare`" in capsys.readouterr().err
