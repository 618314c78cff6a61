"""Token files that are read from a store, by several processes too."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from hyena.data import (
    PrepareConfig,
    WindowSampler,
    is_prepared,
    open_tokens,
    prepare,
    read_manifest,
    stores,
    verify,
)
from hyena.data.stores import Disk, Remote, find_store, url_of

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "x.txt").write_text("|".join(f"text {i} é" for i in range(40)), encoding="utf-8")
    config = PrepareConfig(
        tmp_path / "x.txt", tmp_path / "out", separator="|", shard_bytes=100, validation=0.2
    )
    return prepare(config).directory


@pytest.fixture
def store(folder):
    """A copy in the memory of this process."""
    system = fsspec.filesystem("memory")
    system.put(f"{folder}/", "/bucket/data/", recursive=True)
    yield "memory://bucket/data"
    system.rm("/bucket", recursive=True)


def test_a_place_is_a_path_or_a_url(tmp_path, monkeypatch):
    assert url_of("s3://bucket/data") == url_of(Path("s3://bucket/data")) == "s3://bucket/data"
    chained = "simplecache::s3://bucket/data"
    assert url_of(chained) == url_of(Path(chained)) == chained
    assert url_of("memory://a") == "memory://a"
    for path in ("data", "/data/x", "c:/data", "C:\\data", "a:b", "hf:name", Path("x/y")):
        assert url_of(path) is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "x").mkdir(parents=True)
    assert url_of("s3:/x") is None  # which is there
    for place in (tmp_path.as_uri(), Path(tmp_path.as_uri())):
        found = find_store(place)
        assert isinstance(found, Disk)
        assert found.path == tmp_path


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_store_has_the_tokens_of_the_folder(folder, store, split):
    here = open_tokens(folder, split)
    for place in (store, Path(store), folder.as_uri(), f"simplecache::{store}"):
        there = open_tokens(place, split)
        assert there.tokens[:].tolist() == here.tokens[:].tolist()
        assert there.document_starts.tolist() == here.document_starts.tolist()
        assert [d.tokens.tolist() for d in there.documents()] == [
            d.tokens.tolist() for d in here.documents()
        ]
        assert there.load_tokenizer().fingerprint == here.tokenizer.fingerprint
        windows = [WindowSampler(file, 8, 2, seed=0).batch(1) for file in (here, there)]
        assert all(a.equal(b) for a, b in zip(*windows, strict=True))


def test_only_what_is_asked_for_is_read(folder, store, monkeypatch):
    there = open_tokens(store, "train")
    asked = []
    read = Remote.read

    def note(self, name, start, end):
        asked.append((name, end - start))
        return read(self, name, start, end)

    monkeypatch.setattr(Remote, "read", note)
    assert there.tokens[3:7].tolist() == open_tokens(folder, "train").tokens[3:7].tolist()
    assert asked == [("train-00000.bin", 8)]


def test_small_files_are_copied_once_and_tables_of_the_split_alone(store, monkeypatch):
    system = type(fsspec.filesystem("memory"))
    cat_file, copied = system.cat_file, []

    def note(self, path, *places, **options):
        copied.append(path.rsplit("/", 1)[-1])
        return cat_file(self, path, *places, **options)

    monkeypatch.setattr(system, "cat_file", note)
    open_tokens(store, "validation")
    assert any(name.startswith("validation-") for name in copied)
    assert not any(name.startswith("train") for name in copied)
    copied.clear()
    found = find_store(store)
    assert find_store(found) is found
    read_manifest(found)
    for split in ("train", "validation", "train"):
        open_tokens(found, split)
    assert len(copied) == len(set(copied))
    assert {"manifest.json", "train-00000.documents.npy"} < set(copied)
    copied.clear()
    assert not verify(store).damaged
    assert len(copied) == len(set(copied))


def test_another_process_connects_by_itself(folder, store, monkeypatch):
    there = open_tokens(store, "train")
    expected = there.tokens[:20].tolist()
    copy = pickle.loads(pickle.dumps(there))
    assert copy.tokens[:20].tolist() == expected
    another = os.getpid() + 1
    monkeypatch.setattr(stores.os, "getpid", lambda: another)
    assert there.tokens[:20].tolist() == expected
    assert there.tokens._store._process == another


def test_workers_of_a_loader_read_what_one_process_does(folder, store):
    from torch.utils.data import DataLoader

    for place in (folder, store):
        sampler = WindowSampler(open_tokens(place, "train"), 8, 4, seed=3)
        steps = Steps(sampler)
        loader = DataLoader(steps, batch_size=None, num_workers=2)
        for step, windows in enumerate(loader):
            expected = sampler.batch(step)
            assert all(a.equal(b) for a, b in zip(windows, expected, strict=True))


class Steps:
    """The first steps of a sampler, by number."""

    def __init__(self, sampler):
        self.sampler = sampler

    def __len__(self):
        return 4

    def __getitem__(self, step):
        return tuple(self.sampler.batch(step))


def test_what_is_wrong_in_a_store_is_told_by_its_url(store):
    system = fsspec.filesystem("memory")
    whole = system.cat_file("/bucket/data/train-00001.bin")
    changed = bytes([whole[0] ^ 1]) + whole[1:]
    system.pipe_file("/bucket/data/train-00001.bin", changed)
    assert list(verify(store).damaged) == ["train-00001.bin"]
    open_tokens(store, "train")  # tokens are not read when it is opened
    system.pipe_file("/bucket/data/train-00001.bin", whole[:-1])
    message = f"^{store}/train-00001.bin is damaged: {len(whole) - 1} bytes instead of"
    with pytest.raises(ValueError, match=message):
        open_tokens(store, "train")
    system.rm_file("/bucket/data/train-00001.bin")
    with pytest.raises(FileNotFoundError, match=f"^{store}/train-00001.bin is missing, though"):
        open_tokens(store, "train")
    table = system.cat_file("/bucket/data/train-00000.documents.npy")
    system.pipe_file("/bucket/data/train-00000.documents.npy", table[:-1] + b"x")
    system.pipe_file("/bucket/data/train-00001.bin", whole)
    with pytest.raises(ValueError, match=f"^{store}/train-00000.documents.npy is damaged: its SHA"):
        open_tokens(store, "train")
    with pytest.raises(
        FileNotFoundError, match=r"asked for in memory://nowhere, but it has no man"
    ):
        read_manifest("memory://nowhere")


def test_whether_a_place_is_prepared(folder, store):
    assert is_prepared(folder)
    assert is_prepared(store)
    assert not is_prepared(folder.parent)
    assert not is_prepared("memory://bucket")


def test_a_read_that_comes_short_is_an_error(store, monkeypatch):
    there = open_tokens(store, "train")
    fsspec.filesystem("memory").pipe_file("/bucket/data/train-00000.bin", b"xx")
    with pytest.raises(OSError, match=r"train-00000\.bin: bytes 4 to 8 were asked for, but 0 came"):
        there.tokens[2:4]


def test_the_copies_of_small_files_are_removed(store):
    there = open_tokens(store, "train")
    copies = there.directory
    assert (copies / "manifest.json").is_file()
    assert not list(copies.glob("*.bin"))
    del there
    assert not copies.exists()


def test_a_url_of_an_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="Protocol not known: nowhere"):
        open_tokens("nowhere://x", "train")


def test_tokens_of_a_store_are_read_only(store):
    found = open_tokens(store, "train").tokens[:4]
    assert found.dtype == np.dtype("<u2")
    assert not found.flags.writeable
