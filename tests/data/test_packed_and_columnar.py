"""Parquet, Zstandard and data sets of Hugging Face, from local files."""

import json
import os
import random
import shutil

import pytest

from hyena.data import PrepareConfig, TextFields, find_source, open_tokens, prepare, verify
from hyena.data.tally import Tally

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TEXTS = [f"text {i} é" for i in range(50)]


def write_parquet(file, texts, groups=7, **others):
    table = pyarrow.table({"text": texts, "number": list(range(len(texts))), **others})
    parquet.write_table(table, file, row_group_size=groups)


def packed(data, frames=1):
    codec = pyarrow.Codec("zstd")
    size = -(-len(data) // frames)
    return b"".join(
        codec.compress(data[at : at + size], asbytes=True) for at in range(0, len(data), size)
    )


def texts(spec, **fields):
    return [d.text for d in find_source(spec, TextFields(**fields)).documents()]


def test_rows_of_parquet_are_documents(tmp_path):
    write_parquet(tmp_path / "x.parquet", [*TEXTS, None], body=["b"] * 51)
    source = find_source(tmp_path / "x.parquet")
    documents = list(source.documents())
    assert [d.text for d in documents] == [*TEXTS, ""]
    assert documents[3].name == f"{tmp_path}/x.parquet row 4"
    assert documents[-1].lacks == "field 'text' should hold text, but holds NoneType"
    assert texts(tmp_path / "x.parquet", field="body") == ["b"] * 51
    (tmp_path / "rows.parquet").write_bytes((tmp_path / "x.parquet").read_bytes())
    assert len(list(find_source(tmp_path).documents())) == 102


def test_row_groups_are_read_in_parts(tmp_path):
    write_parquet(tmp_path / "x.parquet", TEXTS)
    source = find_source(tmp_path / "x.parquet")
    groups = parquet.ParquetFile(tmp_path / "x.parquet").num_row_groups
    assert [len(source.parts(size)) for size in (1, 1 << 20)] == [groups, 1] == [8, 1]
    for size in (1, 300, 500):
        found = [
            piece.document
            for part in source.parts(size)
            for piece in source.pieces_of(part, Tally())
        ]
        assert [d.text for d in found] == TEXTS
        assert [d.name.rsplit(" ", 1)[1] for d in found] == [str(i + 1) for i in range(50)]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        (b"", {}, r"x\.parquet is not Parquet, or damaged: "),
        (b"PAR1 and more", {}, r"x\.parquet is not Parquet, or damaged: "),
        (
            None,
            {"field": "body"},
            r"expected one column 'body', got 0; it has 'text', 'number': na",
        ),
    ],
)
def test_what_is_no_parquet(tmp_path, content, fields, message):
    write_parquet(tmp_path / "x.parquet", TEXTS)
    if content is not None:
        (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        texts(tmp_path / "x.parquet", **fields)


def test_numbers_are_no_text(tmp_path):
    write_parquet(tmp_path / "x.parquet", ["a"])
    (document,) = find_source(tmp_path / "x.parquet", TextFields(field="number")).documents()
    assert document.lacks == "field 'number' should hold text, but holds int"


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.csv", "x.fa"])
def test_zstandard_is_unpacked(tmp_path, name, frames):
    content = {
        "x.txt": "one\ntwo é\n" * 500,
        "x.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS),
        "x.csv": "text\none\n" + "two\n" * 30_000,
        "x.fa": ">a\nACGT\n>b\nGG\n",
    }[name].encode()
    (tmp_path / name).write_bytes(content)
    (tmp_path / f"{name}.zst").write_bytes(packed(content, frames))
    assert texts(tmp_path / f"{name}.zst") == texts(tmp_path / name)


@pytest.mark.parametrize("name", ["x.txt.zst", "x.jsonl.zst", "x.csv.ZST"])
def test_what_is_no_zstandard(tmp_path, name):
    draws = random.Random(0)
    data = packed(bytes(draws.choices(b"abcdefgh\n", k=50_000)))
    for content in (b"", b"text", data[:-10], data[:1000]):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is not zstd, or damaged: "):
            texts(tmp_path / name)


def hugging_face_folder(tmp_path, monkeypatch):
    """A folder of files, as which a data set is streamed without a network."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "rows"
    folder.mkdir()
    for i in range(3):
        rows = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS[i::3])
        (folder / f"train-{i}.jsonl").write_text(rows)
    return f"hf:{folder}"


def test_a_dataset_is_streamed_file_by_file_by_two_workers(tmp_path, monkeypatch):
    name = hugging_face_folder(tmp_path, monkeypatch)
    source = find_source(name)
    assert len(source.parts(1 << 28)) == 3
    expected = [text for i in range(3) for text in TEXTS[i::3]]
    assert [d.text for d in source.documents()] == expected
    folders = []
    for workers in (1, 2):
        config = PrepareConfig(name, tmp_path / f"{workers}", validation=0, test=0, workers=workers)
        folders.append(prepare(config).directory)
        assert not verify(folders[-1]).damaged
    one, two = ({f.name: f.read_bytes() for f in folder.iterdir()} for folder in folders)
    assert one == two
    tokens = open_tokens(folders[0], "train")
    found = [bytes(d.tokens[1:-1].tolist()).decode() for d in tokens.documents()]
    assert found == expected


def test_a_folder_of_a_dataset_is_what_its_files_hold(tmp_path, monkeypatch):
    name = hugging_face_folder(tmp_path, monkeypatch)
    config = PrepareConfig(name, tmp_path / "out", validation=0, test=0)
    assert prepare(config).fresh
    file = tmp_path / "rows" / "train-1.jsonl"
    os.utime(file, ns=(0, 0))  # a copy of it
    assert not prepare(config).fresh
    file.write_text(json.dumps({"text": "another"}) + "\n")
    with pytest.raises(ValueError, match="the source has changed or is another one"):
        prepare(config)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    from importlib import util

    write_parquet(tmp_path / "x.parquet", TEXTS)
    shutil.copy(tmp_path / "x.parquet", tmp_path / "x.txt.zst")
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    for name in ("x.parquet", "x.txt.zst"):
        with pytest.raises(ImportError, match=r"needs the package 'pyarrow', .* 'hyena\[data\]'"):
            texts(tmp_path / name)
