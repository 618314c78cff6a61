"""Files of other makes: read as what they are, or one line that says what and where."""

import gzip
import json
import os
import sys
from pathlib import Path

import pytest
from packing import bgzip

from hyena.data import PrepareConfig, TextFields, find_source, prepare

ROW = b'{"text": "one"}\n'


def texts(spec, **fields):
    return [d.text for d in find_source(spec, TextFields(**fields)).documents()]


def complaint(path):
    """What is said of a source of which nothing is written."""
    out = Path(path).parent / "out"
    with pytest.raises((ValueError, OSError)) as error:
        prepare(PrepareConfig(path, out, validation=0, test=0))
    assert not out.exists()
    assert list(out.parent.glob(".out*")) == []
    text = str(error.value)
    assert text.isprintable()
    return text


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("quoted.tsv", b'id\ttext\r\n1\t"say ""a"""\r\n2\t5" b\n', ['say "a"', '5" b']),
        ("cell.tsv", b'text\tid\n"a\tb"\t1\n\n"c"\t2', ["a\tb", "c"]),
        ("mark.csv", b'\xef\xbb\xbf"text","id"\n"a",1\n', ["a"]),
        ("blank.csv", b"\n\nid,text\n\n1,a\n", ["a"]),
        ("cell.csv", b'id,text\n1,"a\rb"\n', ["a\rb"]),
        ("old.fa", b">1\rAC\rGT\r>2 x\rA\r", ["ACGT", "A"]),
        ("mixed.fa", b">1\r\nAC\rGT\n>2\nA", ["ACGT", "A"]),
        ("members.jsonl.gz", gzip.compress(ROW) + gzip.compress(ROW), ["one", "one"]),
        ("padded.jsonl.gz", gzip.compress(ROW) + bytes(512), ["one"]),
        ("empty.csv", b"", []),
        ("empty.json", b"", []),
    ],
)
def test_files_of_other_makes(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert texts(tmp_path / name) == expected


STRAY = b'id\ttext\n1\t"no end\n2\tb\n3\t"another\n'


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.tsv", STRAY, "x.tsv line 2: no row of a table: unexpected end of data; a cell that"),
        ("x.tsv", b'text\tid\n"a" b\t1\n', r"x.tsv line 2: no row of a table: '\t' expected after"),
        (
            "x.tsv",
            b'text\tid\n"a\t1"\n',
            "line 2: expected 2 cells as the first line has, got 1 wi",
        ),
        ("x.tsv", b"id\ttext\r1\ta\r", "x.tsv line 1: a carriage return that ends no line stands"),
        ("x.tsv", b"id\ttext\n1\ta\rb\n", "x.tsv line 2: a carriage return that ends no line"),
        ("x.csv", b"id,text\r1,a\r", "x.csv line 1: a carriage return that ends no line stands"),
        ("x.csv", b"id,text\n1,a\rb\n", "x.csv line 2: a carriage return that ends no line"),
        ("x.csv", "id,text\n1,a\n".encode("utf-16"), "x.csv is not UTF-8 text: byte 0xff at off"),
        ("x.csv", "id,text\n1,a\n".encode("utf-16-le"), "x.csv is not text: byte 0x00 in line 1;"),
        ("x.jsonl", b'{"text": "a"}\n\0', "x.jsonl is not text: byte 0x00 in line 2; if it is U"),
        ("x.json", b'{\n"text": "a"\n}', "x.json is a single JSON value over several lines; exp"),
        (
            "x.json",
            ROW + b'{\n"text": "a"\n}',
            "x.json line 2 is not JSON: Expecting property name",
        ),
        ("x.json", b'[{"text": "\0"}]', "x.json is not text: byte 0x00 at character 11; if"),
        (
            "x.fa",
            b">1\nA\0C\n",
            "x.fa is not text: byte 0x00 at character 4; if it",
        ),
        ("x.jsonl", b"[\n" + ROW, "x.jsonl line 1 is not JSON: Expecting value at"),
        ("x.jsonl", b"3\n", "no text in the source: 1 row holds no text where some was expected"),
        ("x.jsonl", b"[" + ROW.strip() + b"]", "line 1: expected an object with field 'text'"),
        ("x.jsonl", b'{"n": 1' + b"0" * 5000 + b"}", "x.jsonl line 1 is not a record: a number in"),
        ("x.json", b"[1" + b"0" * 5000 + b"]", "x.json is not a record: a number in it has too m"),
        ("x.txt.gz", b"", "x.txt.gz is not gzip, or damaged: it is empty"),
        ("x.jsonl.gz", b"", "x.jsonl.gz is not gzip, or damaged: it is empty"),
        ("x.jsonl.gz", gzip.compress(ROW) + b"garbage", "x.jsonl.gz is not gzip, or damaged: No"),
        ("x.jsonl.gz", bgzip(ROW * 3, len(ROW))[:-28], "is not gzip, or damaged: it is bgzip, bu"),
        ("x.fa.bgz", bgzip(b">a\nA\n>b\nC\n", 5)[:-28], "ends without the empty block that ends s"),
        ("x.txt", b"", "there is no text in the source: "),
    ],
)
def test_what_cannot_be_read_is_one_line_and_leaves_nothing(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    assert message in complaint(tmp_path / name)


def test_links_and_what_is_no_file_are_told(tmp_path):
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "b.txt").write_text("b")
    (folder / "sub" / "a.txt").write_text("a")
    (folder / "sub" / "file.txt").symlink_to(elsewhere / "b.txt")
    (folder / "sub" / "linked").symlink_to(elsewhere)
    (folder / "gone.txt").symlink_to(folder / "nothing")
    (folder / ".hidden").symlink_to(elsewhere)
    (folder / "round.txt").symlink_to(folder / "round.txt")
    source = find_source(folder)
    assert [d.text for d in source.documents()] == ["a", "b"]
    assert source.notes == [
        f"{folder}: 3 entries that are no files were left out: gone.txt, round.txt, sub/linked; "
        "a folder that is a link is read if it is named itself"
    ]
    assert texts([folder, folder / "sub" / "linked"]) == ["a", "b", "b"]
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "linked").symlink_to(elsewhere)
    with pytest.raises(
        ValueError, match=r"no files that end in .*, but for hidden ones; .* linked"
    ):
        find_source(tmp_path / "top")


def test_files_that_are_read_twice_are_told(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("a")
    assert find_source(tmp_path).notes == []
    source = find_source([tmp_path, tmp_path / "b.txt"])
    assert [d.text for d in source.documents()] == ["a", "a", "a"]
    assert source.notes == [
        f"1 file is read once more, the first {tmp_path}/b.txt; a text and its copy may be dealt "
        "to different splits"
    ]
    (tmp_path / "c.txt").symlink_to(tmp_path / "a.txt")
    (note,) = find_source([str(tmp_path), str(tmp_path / "b.txt")]).notes
    assert note.startswith(f"2 files are read once more, the first {tmp_path}/c.txt")


def test_a_folder_of_hidden_files(tmp_path):
    (tmp_path / ".a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"has no files that end in .*, but for hidden ones$"):
        find_source(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="names there are text in one line")
@pytest.mark.parametrize("name", ["two\nlines", "caf\udce9", "tab\t"])
def test_any_name_is_told_in_one_line(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / f"{name}.txt").write_bytes(b"\xff")
    assert r".txt is not UTF-8 text" in complaint(folder)
    assert r".txt is not UTF-8 text" in complaint(folder / f"{name}.txt")
    (folder / f"{name}.html").write_text("x")
    (folder / "gone").symlink_to(folder / "nothing")
    (folder / f"{name}.txt").write_text("text")
    source = find_source(folder)
    assert texts(folder) == ["text"]
    assert len(source.notes) == 2
    assert all(note.isprintable() for note in source.notes)
    (folder / f"{name}.fa").write_text(">1\nA\n")
    assert "several kinds" in complaint(folder)
    (folder / f"{name}.json").write_text("[")
    assert "is not JSON" in complaint(folder / f"{name}.json")
    assert "is of no known kind" in complaint(folder / f"{name}.html")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/null")):
        with pytest.raises(
            ValueError, match="is a pipe or a device; a source is read twice, so wr"
        ):
            find_source(path)
    (tmp_path / "a.txt").write_text("a")
    source = find_source(tmp_path)
    assert [d.text for d in source.documents()] == ["a"]
    assert "1 entry that is no file was left out: pipe.txt" in source.notes[0]


def test_what_may_not_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "texts" / "sub").mkdir(parents=True)
    (tmp_path / "texts" / "a.txt").write_text("a")
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(PermissionError, match="sub"):
        find_source(tmp_path / "texts")


@pytest.mark.parametrize("name", ["x.txt", "x.jsonl", "x.fa", "x.csv"])
def test_a_file_that_changes_while_it_is_read_is_told(tmp_path, name):
    data = {"x.jsonl": ROW, "x.fa": b">1\nAC\n", "x.csv": b"text\na\n"}.get(name, b"text")
    (tmp_path / name).write_bytes(data)

    def write_on(documents, *_):
        if documents == 1:  # not after what was written on, for ever
            with (tmp_path / name).open("ab") as stream:
                stream.write(data)

    config = PrepareConfig(tmp_path / name, tmp_path / "out", validation=0, test=0)
    with pytest.raises(ValueError, match=rf"{name} was changed while it was read; start again"):
        prepare(config, progress=write_on)
    assert not (tmp_path / "out").exists()
    assert prepare(config).fresh
    source = find_source(tmp_path / name)
    source.describe()
    write_on(1)
    with pytest.raises(ValueError, match="was changed while it was read"):
        list(source.documents())


def test_numbers_of_a_row_that_are_not_its_text_may_be_anything(tmp_path):
    row = json.dumps({"text": "a", "n": 10**4000, "x": 1e308})
    (tmp_path / "x.jsonl").write_text(row + "\n" + row.replace("1e+308", "1e999"))
    assert texts(tmp_path / "x.jsonl") == ["a", "a"]
