"""Splits by the text of a document, by files, and copies that are left out."""

import json
from collections import Counter
from itertools import chain

import numpy as np
import pytest

from hyena.data import PrepareConfig, load_tokenizer, open_tokens, prepare
from hyena.data.documents import SPLITS
from hyena.data.splits import splits_by_hash, without_copies


def texts(folder):
    """The texts of each split."""
    manifest = json.loads((folder / "manifest.json").read_text())
    decode = load_tokenizer(folder).decode
    return {
        split: [decode(d.tokens) for d in open_tokens(folder, split).documents()]
        for split in manifest["splits"]
    }


def prepared(tmp_path, documents, out="out", **changes):
    rows = "".join(json.dumps({"text": text}) + "\n" for text in documents)
    (tmp_path / f"{out}.jsonl").write_text(rows)
    return prepare(PrepareConfig(tmp_path / f"{out}.jsonl", tmp_path / out, **changes))


def test_by_hash_a_document_stays_where_it_is(tmp_path):
    some = [f"document {i}" for i in range(150)]
    fractions = {"validation": 0.2, "test": 0.1, "split_by": "hash"}
    few = texts(prepared(tmp_path, some, "few", **fractions).directory)
    more = texts(
        prepared(
            tmp_path,
            [*(f"other {i}" for i in range(150)), *reversed(some)],
            "more",
            tokenizer="evo",
            shard_bytes=800,
            **fractions,
        ).directory
    )
    assert sum(map(len, few.values())) == 150
    for split in SPLITS:
        assert set(few[split]) <= set(more[split])
    assert 15 <= len(few["validation"]) <= 45
    another = texts(prepared(tmp_path, some, "another", seed=1, **fractions).directory)
    assert set(another["validation"]) != set(few["validation"])


def test_by_hash_the_fractions_are_nearly_met():
    digests = np.random.default_rng(0).integers(0, 2**64, (20_000, 2), dtype=np.uint64)
    counts = np.bincount(splits_by_hash(digests, validation=0.1, test=0.3), minlength=3)
    assert np.abs(counts / 20_000 - [0.6, 0.1, 0.3]).max() < 0.01
    with pytest.raises(ValueError, match="none of 3 documents falls into validation by its hash"):
        splits_by_hash(digests[:3], validation=1e-9, test=0)


@pytest.mark.parametrize("size", [40, 1 << 20])
@pytest.mark.parametrize("split_by", ["documents", "hash"])
def test_the_first_of_documents_with_one_text_is_kept(tmp_path, size, split_by):
    documents = [f"text {i % 20}" for i in range(50)] + ["text  3", "Text 3"]
    done = prepared(
        tmp_path, documents, split_by=split_by, deduplicate=True, validation=0.2, test=0.2,
        shard_bytes=size,
    )  # fmt: skip
    found = texts(done.directory)
    assert sorted(chain(*found.values())) == sorted(set(documents))
    assert done.manifest.duplicates == 30
    again = prepared(tmp_path, documents, split_by=split_by, deduplicate=True, validation=0.2,
                     test=0.2, shard_bytes=size)  # fmt: skip
    assert not again.fresh


def test_a_copy_that_is_held_out_is_the_one_that_is_kept():
    digests = np.array([[1, 1], [2, 1], [1, 1], [2, 1], [1, 2], [1, 1]], dtype=np.uint64)
    train, validation, test = range(3)
    origins = np.array([train, validation, test, validation, train, validation], dtype=np.uint8)
    kept = without_copies(digests, origins)
    assert kept.tolist() == [False, True, True, False, True, False]
    slow = [i for i in range(6) if i == best_copy(i, digests.tolist(), origins.tolist())]
    assert np.flatnonzero(kept).tolist() == slow


def best_copy(i, digests, origins):
    """Of the documents with the text of one, that which is kept."""
    same = [j for j in range(len(digests)) if digests[j] == digests[i]]
    return max(same, key=lambda j: (origins[j], -j))


def files(tmp_path, **contents):
    for name, rows in contents.items():
        lines = "".join(json.dumps({"text": text}) + "\n" for text in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    return {name: str(tmp_path / f"{name}.jsonl") for name in contents}


def test_files_say_what_is_held_out(tmp_path):
    named = files(tmp_path, a=["one", "two"], b=["three"], v=["four", "two"], t=["five", "six"])
    source = [named["a"], named["b"]]
    config = PrepareConfig(source, tmp_path / "out", validation=named["v"], test=[named["t"]])
    assert texts(prepare(config).directory) == {
        "train": ["one", "two", "three"],
        "validation": ["four", "two"],
        "test": ["five", "six"],
    }
    assert not prepare(config).fresh
    config = PrepareConfig(source, tmp_path / "b", validation=named["v"], deduplicate=True)
    assert texts(prepare(config).directory) == {
        "train": ["one", "three"],  # what validation holds is not trained on
        "validation": ["four", "two"],
    }
    swapped = PrepareConfig(named["v"], tmp_path / "out", validation=source, test=named["t"])
    with pytest.raises(ValueError, match="the source has changed or is another one"):
        prepare(swapped)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": 0.2}, r"test is the fraction 0\.2, but validation names files; give files"),
        ({"split_by": "hash"}, "split_by is 'hash', but validation names files"),
        ({"source": "sotu"}, "validation names files, but source 'sotu' is none"),
        ({"max_documents": 3}, "max_documents would stop before the source's later splits"),
        ({"workers": 0}, "workers: expected at least 1, got 0"),
        ({"shard_bytes": 0}, "shard_bytes: expected at least 1, got 0"),
        ({"out": "s3://bucket/data"}, r"out 's3://bucket/data' is a URL, but token files are wri"),
        ({"validation": "absent.jsonl"}, r"source 'absent\.jsonl' was asked for, but there is no"),
    ],
)
def test_settings_that_contradict_each_other(tmp_path, changes, message):
    named = files(tmp_path, a=["one"], v=["two"])
    settings = {"source": named["a"], "out": tmp_path / "out", "validation": named["v"], **changes}
    error = FileNotFoundError if "absent" in message else ValueError
    with pytest.raises(error, match=message):
        prepare(PrepareConfig(**settings))


def test_texts_are_compared_whatever_their_pieces(tmp_path, monkeypatch):
    from hyena.data import pieces

    documents = ["a b c d", "e f g h", "a b c d", "e f g  h"]
    expected = None
    for block in (1, 2, 3, 1 << 20):
        monkeypatch.setattr(pieces, "BLOCK", block)
        done = prepared(tmp_path, documents, f"{block}", deduplicate=True, validation=0.4, test=0)
        found = texts(done.directory)
        assert Counter(chain(*found.values())) == Counter(set(documents))
        expected = expected or found
        assert found == expected
