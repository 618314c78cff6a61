import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from hyena.data import load_tokenizer, open_tokens, read_manifest
from hyena.files import digests

SAMPLES = Path(__file__).parent
SPLITS = {"train": ["One.\n", "Zwei: ä.\n"], "validation": ["Trois\n"], "test": ["Четыре\n"]}


@pytest.fixture
def sample(tmp_path):
    return Path(shutil.copytree(SAMPLES / "format_1", tmp_path / "tokens"))


def change(directory, **changes):
    file = directory / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("name", ["format_1", "format_1_bpe"])
def test_format_version_1_is_read_for_ever(name):
    for split, texts in SPLITS.items():
        file = open_tokens(SAMPLES / name, split, verify=True)
        tokenizer = file.load_tokenizer()
        file.check_tokenizer(tokenizer)
        file.check_vocabulary(tokenizer.vocab_size)
        found = list(file.documents())
        assert [tokenizer.decode(d.tokens) for d in found] == texts
        assert [d.n_bytes for d in found] == [len(text.encode()) for text in texts]


def test_the_layout_of_version_1():
    file = open_tokens(SAMPLES / "format_1", "train")
    expected = [256, *b"One.\n", 256, *"Zwei: ä.\n".encode(), 256]
    assert file.tokens.tolist() == expected
    assert file.document_starts.tolist() == [0, 6]
    assert not file.tokens.flags.writeable
    raw = np.fromfile(SAMPLES / "format_1" / "train.bin", dtype="<u2")
    assert raw.tolist() == expected


def test_another_tokenizer_is_refused(sample):
    file = open_tokens(sample, "train")
    with pytest.raises(ValueError, match=r"made with tokenizer 'bytes' \(257 ids.*'gpt2' \(50257"):
        file.check_tokenizer(load_tokenizer("gpt2"))


def test_a_smaller_vocabulary_is_refused_and_a_padded_one_is_not(sample):
    file = open_tokens(sample, "train")
    file.check_vocabulary(264)
    with pytest.raises(ValueError, match=r"the model has vocab_size=256; set .* 257 or more"):
        file.check_vocabulary(256)


def test_another_format_version_is_refused(sample):
    change(sample, format_version=7)
    with pytest.raises(ValueError, match="format version 7, but this hyena reads 1; install"):
        open_tokens(sample, "train")


def test_what_is_not_there(sample):
    with pytest.raises(
        ValueError, match=r"split 'dev' was asked for, but .* has train, validation"
    ):
        open_tokens(sample, "dev")
    (sample / "train.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.bin is missing, though the manifest"):
        open_tokens(sample, "train")
    (sample / "manifest.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json; make them with"):
        open_tokens(sample, "train")


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"format_version": 1}', "\xff"])
def test_a_damaged_manifest(sample, content):
    (sample / "manifest.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        read_manifest(sample)


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": []},
        {"splits": {"train": {"documents": 2}}},
        {"splits": {"train": {"documents": "2", "tokens": 1, "bytes": 1, "sha256": {}}}},
        {"splits": {"train": {"documents": 2, "tokens": 1, "bytes": 1, "sha256": 3}}},
        {"tokenizer": {"name": "bytes"}},
        {"tokenizer": {"name": "x", "fingerprint": "", "vocab_size": "3", "end_of_text": 0}},
        {"tokenizer": {"name": "x", "fingerprint": 1, "vocab_size": 3, "end_of_text": 0}},
        {"settings": []},
        {"source": 3},
        {"dtype": "object"},
    ],
)
def test_a_manifest_with_wrong_entries(sample, changes):
    change(sample, **changes)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        open_tokens(sample, "train")


def test_files_cut_short(sample):
    file = sample / "train.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train\.bin is damaged: 35 bytes instead of 36"):
        open_tokens(sample, "train")
    shutil.copy(SAMPLES / "format_1" / "train.bin", file)
    table = sample / "train.documents.npy"
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train\.documents\.npy is damaged"):
        open_tokens(sample, "train")
    table.write_bytes(b"")
    with pytest.raises(ValueError, match=r"train\.documents\.npy is damaged"):
        open_tokens(sample, "train")


@pytest.mark.parametrize(
    "table",
    [
        np.zeros((3, 2), dtype="<i8"),
        np.zeros((2, 2), dtype="<f8"),
        np.array([[1, 1], [6, 1]], dtype="<i8"),
        np.array([[0, 1], [0, 1]], dtype="<i8"),
        np.array([[0, 1], [99, 1]], dtype="<i8"),
    ],
)
def test_a_table_of_documents_that_cannot_be(sample, table):
    np.save(sample / "train.documents.npy", table, allow_pickle=False)
    with pytest.raises(ValueError, match=r"train\.documents\.npy is damaged"):
        open_tokens(sample, "train")


def test_pickled_tables_are_refused(sample):
    np.save(sample / "train.documents.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"train\.documents\.npy is damaged"):
        open_tokens(sample, "train")


def flip(file, at, bit=1):
    """Flips a bit of a file."""
    data = bytearray(file.read_bytes())
    data[at] ^= bit
    file.write_bytes(data)


def test_a_changed_byte_is_found(sample):
    flip(sample / "train.bin", 2)
    open_tokens(sample, "train", verify=False)
    with pytest.raises(ValueError, match=r"train\.bin is damaged: its SHA-256 .* make the folder"):
        open_tokens(sample, "train")


def test_sizes_of_documents_are_compared_with_the_manifest(sample):
    """A flipped bit in the size of a document once divided the bits per byte by a hundred."""
    flip(sample / "train.documents.npy", -6, 4)
    message = r"train\.documents\.npy is damaged: the documents have \d+ bytes, not 15; make the"
    with pytest.raises(ValueError, match=message):
        open_tokens(sample, "train", verify=False)
    with pytest.raises(ValueError, match=r"train\.documents\.npy is damaged: its SHA-256"):
        open_tokens(sample, "train")


def test_every_stray_byte_in_the_header_of_a_table_is_one_line(sample):
    table = sample / "train.documents.npy"
    whole = table.read_bytes()
    for at in range(128):
        for byte in b"\x00\n\xff(P":
            table.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
            with contextlib.suppress(ValueError):  # a blank may become another one
                open_tokens(sample, "train", verify=False)


def test_a_manifest_that_was_changed_is_found_by_the_list_of_digests(sample):
    digests.complete(sample)
    open_tokens(sample, "train")
    text = (sample / "manifest.json").read_text()
    (sample / "manifest.json").write_text(text.replace('"skipped": 0', '"skipped": 1'))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged: its SHA-256 .* prepare`"):
        open_tokens(sample, "train")
