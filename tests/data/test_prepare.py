import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
from tokenizer_kinds import KINDS

from hyena.data import PrepareConfig, load_tokenizer, open_tokens, prepare
from hyena.files import atomic

TEXTS = [f"document {i}: {'é' * i}" for i in range(10)]


@pytest.fixture
def folder(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    for i, text in enumerate(TEXTS):
        (texts / f"{i}.txt").write_text(text, encoding="utf-8")
    return texts


def config(folder, **changes):
    settings = {"source": str(folder), "out": folder.parent / "out", **changes}
    return PrepareConfig(**{"validation": 0.2, "test": 0.1, **settings})


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("kind", ["bytes", "byte_level"])
def test_every_document_comes_back_from_exactly_one_split(folder, tmp_path, kind):
    tokenizer = KINDS[kind]
    tokenizer.save(tmp_path / "tokenizer")
    done = prepare(config(folder, tokenizer=tmp_path / "tokenizer"))
    assert done.fresh
    found, sizes = [], {}
    for split in ("train", "validation", "test"):
        file = open_tokens(done.directory, split, verify=True)
        record = done.manifest.splits[split]
        sizes[split] = record.documents
        assert file.tokens.dtype == np.uint16
        assert len(file) == record.tokens == len(file.tokens)
        assert file.total_bytes == record.bytes
        ends = np.flatnonzero(file.tokens == tokenizer.end_of_text)
        assert ends.tolist() == [*file.document_starts.tolist(), len(file) - 1]
        for document in file.documents():
            assert document.tokens[0] == document.tokens[-1] == tokenizer.end_of_text
            text = tokenizer.decode(document.tokens)
            assert document.n_bytes == len(text.encode())
            found.append(text)
        assert file.load_tokenizer().fingerprint == tokenizer.fingerprint
    assert sorted(found) == sorted(TEXTS)
    assert sizes == {"train": 7, "validation": 2, "test": 1}


def test_documents_keep_their_order_within_a_split(folder):
    done = prepare(config(folder))
    tokenizer = load_tokenizer("bytes")
    train = [tokenizer.decode(d.tokens) for d in open_tokens(done.directory, "train").documents()]
    assert train == sorted(train)


def test_a_large_vocabulary_takes_four_bytes(tmp_path, folder):
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    vocabulary = {f"w{i}": i for i in range(70000)} | {"</s>": 70000, "document": 70001}
    backend = Backend(models.WordLevel(vocabulary, unk_token="w0"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "words.json").write_text(backend.to_str())
    done = prepare(config(folder, tokenizer=str(tmp_path / "words.json")))
    file = open_tokens(done.directory, "train")
    assert done.manifest.dtype == "uint32"
    assert file.tokens.dtype == np.uint32
    assert file.tokens[:2].tolist() == [70000, 70001]


def test_a_fraction_of_zero_makes_no_split(folder):
    done = prepare(config(folder, validation=0, test=0))
    assert list(done.manifest.splits) == ["train"]
    with pytest.raises(ValueError, match=r"split 'test' was asked for, but .* has train"):
        open_tokens(done.directory, "test")


def test_again_does_nothing_and_says_so(folder):
    first = prepare(config(folder))
    before = {path: path.stat().st_mtime_ns for path in first.directory.iterdir()}
    again = prepare(config(folder))
    assert not again.fresh
    assert again.manifest == first.manifest
    assert {path: path.stat().st_mtime_ns for path in first.directory.iterdir()} == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["out", "texts"]


def test_the_same_settings_give_the_same_bytes(folder):
    one = prepare(config(folder)).directory
    two = prepare(config(folder, out=folder.parent / "two")).directory
    assert contents(one) == contents(two)


def test_other_settings_or_another_source_are_an_error_unless_overwritten(folder):
    first = prepare(config(folder))
    before = contents(first.directory)
    with pytest.raises(ValueError, match=r"seed is 0 there and 1 now.*--overwrite true"):
        prepare(config(folder, seed=1))
    (folder / "0.txt").write_text("changed")
    with pytest.raises(ValueError, match="the source has changed or is another one"):
        prepare(config(folder))
    assert contents(first.directory) == before
    assert prepare(config(folder, overwrite=True)).fresh
    assert contents(first.directory) != before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["out", "texts"]


def test_only_token_files_are_overwritten(folder):
    out = folder.parent / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"out is no folder of token files; choose another one"):
        prepare(config(folder, overwrite=True))
    (out / "sweep.json").touch()
    with pytest.raises(ValueError, match=r"out is the folder of a sweep of `hyena tasks sweep`; c"):
        prepare(config(folder, overwrite=True))
    (out / "sweep.json").unlink()
    (out / "thesis.txt").rename(folder.parent / "thesis.txt")
    prepare(config(folder))  # an empty folder is taken
    (folder.parent / "thesis.txt").rename(out / "thesis.txt")
    with pytest.raises(ValueError, match=r"holds other things too \(thesis.txt\)"):
        prepare(config(folder, seed=1, overwrite=True))
    assert (out / "thesis.txt").read_text() == "years of work"
    file = folder.parent / "file"
    file.write_text("x")
    with pytest.raises(ValueError, match="file is no folder of token files"):
        prepare(config(folder, out=file, overwrite=True))


def test_a_damaged_folder_is_not_taken_for_done(folder):
    out = prepare(config(folder)).directory
    data = bytearray((out / "train.bin").read_bytes())
    data[4] ^= 1
    (out / "train.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"train\.bin is damaged: its SHA-256"):
        prepare(config(folder))


def test_sha256sum_can_check_a_folder(folder):
    out = prepare(config(folder)).directory
    lines = (out / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = sorted(path.name for path in out.iterdir() if path.name != "SHA256SUMS")
    assert listed == {name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files}
    prepare(config(folder, seed=1, overwrite=True))  # it is ours


def test_progress_counts_documents_and_bytes(folder):
    seen = []
    prepare(config(folder), progress=lambda *counts: seen.append(counts))
    total = sum(len(text.encode()) for text in TEXTS)
    assert [documents for documents, _, _ in seen] == list(range(1, 11))
    assert seen[-1] == (10, total, total)


def test_empty_documents_are_left_out_and_counted(folder):
    (folder / "empty.txt").write_text("\n")
    manifest = prepare(config(folder)).manifest
    assert manifest.skipped == 1
    assert sum(split.documents for split in manifest.splits.values()) == 10


def test_what_was_left_out_is_said_with_its_number(folder):
    rows = ['{"text": "a"}', '{"text": null}', "[]", '{"text": ""}', '{"text": "b"}']
    (folder / "x.jsonl").write_text("\n".join(rows))
    done = prepare(config(folder, kind="jsonl", validation=0.5, test=0))
    assert (done.manifest.skipped, done.manifest.splits["train"].documents) == (3, 1)
    assert done.notes == (
        f"2 rows hold no text where some was expected, the first {folder}/x.jsonl line 2: field "
        "'text' should hold text, but holds NoneType",
        f"{folder}: 10 files of other kinds were left out: 0.txt, 1.txt, 2.txt, ...",
    )


def test_reading_stops_at_max_documents(folder):
    manifest = prepare(config(folder, max_documents=4)).manifest
    assert sum(split.documents for split in manifest.splits.values()) == 4


def test_a_dataset_may_keep_its_own_splits(folder, monkeypatch):
    sizes = {"train": 3, "validation": 1, "test": 2}

    def load_dataset_builder(name, config=None, *, revision=None):
        return types.SimpleNamespace(
            config=types.SimpleNamespace(data_files=None),
            as_streaming_dataset=lambda split: [
                {"text": f"{split} {i}"} for i in range(sizes[split])
            ],
        )

    module = types.ModuleType("datasets")
    module.__spec__ = types.SimpleNamespace(name="datasets", origin=None)
    module.load_dataset_builder = load_dataset_builder
    monkeypatch.setitem(sys.modules, "datasets", module)
    done = prepare(config(folder, source="hf:x", split_by="source"))
    for split, size in sizes.items():
        decode = load_tokenizer("bytes").decode
        texts = [decode(d.tokens) for d in open_tokens(done.directory, split).documents()]
        assert texts == [f"{split} {i}" for i in range(size)]
    with pytest.raises(ValueError, match="max_documents would stop before"):
        prepare(config(folder, source="hf:x", split_by="source", max_documents=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 1.5}, "validation is a fraction of the documents"),
        ({"validation": 0.5, "test": 0.5}, "leave no documents to train on"),
        ({"source": ""}, "source is empty; give a path"),
        ({"out": ""}, "out is empty; give a path"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"seed": {}}, "seed: expected a whole number, got {}"),
        ({"split_by": np.zeros(2)}, "split_by: expected 'documents', 'hash' or 'source'"),
        ({"out": np.zeros(2)}, "out: expected a path, got array"),
        ({"max_documents": 0}, "max_documents: expected at least 1, got 0"),
        (
            {"split_by": "chance"},
            "split_by: expected 'documents', 'hash' or 'source', or .*'chance'",
        ),
        ({"split_by": "source"}, "needs a Hugging Face dataset"),
        ({"max_documents": 2}, "2 documents cannot fill 3 splits"),
    ],
)
def test_bad_settings(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        prepare(config(folder, **changes))
    assert [p.name for p in folder.parent.iterdir()] == ["texts"]


def test_a_bad_document_leaves_nothing_behind(folder):
    (folder / "9z.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"9z\.txt is not UTF-8 text: byte 0xff at offset 0"):
        prepare(config(folder))
    assert [p.name for p in folder.parent.iterdir()] == ["texts"]
    for file in folder.iterdir():
        file.write_text("")
    with pytest.raises(ValueError, match=r"no text in the source: .*, \.\.\. are empty"):
        prepare(config(folder))
    assert [p.name for p in folder.parent.iterdir()] == ["texts"]


def test_a_full_disk_is_told_and_the_old_files_stay(folder, monkeypatch):
    before = contents(prepare(config(folder)).directory)

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic, "sync_tree", full)
    with pytest.raises(OSError, match=r"cannot write .*out: No space left on device; it is as"):
        prepare(config(folder, seed=1, overwrite=True))
    assert contents(folder.parent / "out") == before
    assert sorted(p.name for p in folder.parent.iterdir()) == ["out", "texts"]


def test_a_disk_that_fills_up_while_tokens_are_written(folder):
    resource = pytest.importorskip("resource")
    (folder / "long.txt").write_text("x" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(OSError, match=r"^cannot write .*out: File too large; it is as it was"):
            prepare(config(folder))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in folder.parent.iterdir()] == ["texts"]


def test_a_mount_point_is_refused_before_the_text_is_read(folder, monkeypatch):
    out = folder.parent / "out"
    out.mkdir()
    monkeypatch.setattr(type(out), "is_mount", lambda path: path == out)
    with pytest.raises(
        ValueError, match=r"out is a mount point, .*; give a folder in it, such as "
    ):
        prepare(config(folder), progress=lambda *_: pytest.fail("was read"))
    assert list(out.iterdir()) == []
    inside = prepare(config(folder, out=out / "tokens")).directory
    monkeypatch.setattr(type(out), "is_mount", lambda path: path == inside)
    assert not prepare(config(folder, out=inside)).fresh  # what is there already is taken


def test_a_folder_that_cannot_be_written(folder):
    (folder.parent / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*file/out: "):
        prepare(config(folder, out=folder.parent / "file" / "out"))


def test_a_replacement_cut_off_between_its_renames_is_undone(folder):
    out = prepare(config(folder)).directory
    before = contents(out)
    out.rename(out.with_name(".out.old"))
    assert not prepare(config(folder)).fresh
    assert contents(out) == before


def test_two_writers_of_one_folder(folder):
    pytest.importorskip("fcntl")
    with (
        atomic.staged(folder.parent / "out"),
        pytest.raises(RuntimeError, match="another process is writing"),
    ):
        prepare(config(folder))


def test_a_killed_run_leaves_nothing_that_looks_whole(folder):
    out = folder.parent / "out"
    program = (
        "import sys, time\n"
        "from hyena.data import PrepareConfig, prepare\n"
        "def wait(documents, *_):\n"
        "    if documents == 5:\n"
        "        print('half', flush=True)\n"
        "        time.sleep(60)\n"
        "prepare(PrepareConfig(source=sys.argv[1], out=sys.argv[2]), progress=wait)\n"
    )
    command = [sys.executable, "-c", program, str(folder), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    assert not out.exists()
    with pytest.raises(FileNotFoundError, match="out, but it does not exist; make them with"):
        open_tokens(out, "train")
    assert prepare(config(folder)).fresh
    assert sorted(p.name for p in folder.parent.iterdir()) == ["out", "texts"]


def test_the_manifest_is_plain_json_with_a_version(folder):
    content = json.loads((prepare(config(folder)).directory / "manifest.json").read_text())
    assert content["format_version"] == 1
    assert content["tokenizer"]["name"] == "bytes"
