"""The parts of a source, each read on its own, are together the source."""

import gzip
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hyena.data import TextFields, find_source, pieces
from hyena.data.cuts import Cuts
from hyena.data.documents import Piece
from hyena.data.pieces import whole
from hyena.data.tally import Tally


def by_parts(source, size):
    """The documents of all parts with their number in all, and what is said of them."""
    tally, found = Tally(), []
    parts = source.parts(size)
    for part in parts:
        told = Tally()
        found += whole(source.pieces_of(part, told))
        tally.merge(told)
    return found, tally, len(parts)


def texts_of(documents):
    return [(document.text, document.split, document.lacks) for document in documents]


@settings(max_examples=150, deadline=None)
@given(
    text=st.text("ab|\n\r", max_size=60),
    separator=st.sampled_from(["|", "\n\n", "aa", "|a|", "\n"]),
    size=st.integers(1, 20),
    block=st.integers(1, 9),
)
@example(text="a\n\n\n\nb\n\n\nc", separator="\n\n", size=1, block=1)
@example(text="a|", separator="|", size=1, block=1)
@example(text="aaaaaaa", separator="aa", size=2, block=3)
@example(text="|a|a|a|", separator="|a|", size=3, block=2)
def test_a_text_is_cut_from_any_place_on_as_from_its_beginning(
    tmp_path_factory, text, separator, size, block
):
    file = tmp_path_factory.mktemp("texts") / "x.txt"
    file.write_bytes(text.encode())
    expected = re.split("\r?\n".join(map(re.escape, separator.split("\n"))), text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "BLOCK", block)
        source = find_source(file, TextFields(separator=separator))
        found, tally, _ = by_parts(source, size)
        assert [document.text for document in found] == expected
        assert (tally.texts, tally.cuts) == (1, len(expected) - 1)


def test_a_separator_is_found_once_in_whatever_block_it_is(tmp_path, monkeypatch):
    text = "é" * 10 + "<|>" + "x" * 10 + "<|>" + "<|>"
    (tmp_path / "x.txt").write_text(text, encoding="utf-8")
    for block in (1, 2, 3, 1 << 20):
        monkeypatch.setattr(pieces, "BLOCK", block)
        cuts = Cuts("<|>")
        assert cuts.find(tmp_path / "x.txt", 0) == cuts.find(tmp_path / "x.txt", 20) == (20, 23)
        assert cuts.find(tmp_path / "x.txt", 21) == (33, 36)
        assert cuts.find(tmp_path / "x.txt", 37) is None


def write_some_of_each(folder):
    draws = random.Random(0)
    rows = [f'{{"text": "{"é" * draws.randint(0, 30)} {i}"}}' for i in range(40)]
    rows[7] = rows[23] = ""  # blank lines are none
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:9]).encode()))
    (folder / "small.jsonl").write_text('{"text": "one"}\n{"body": "two"}\n')


@pytest.mark.parametrize("size", [1, 10, 64, 300, 1 << 20])
def test_rows_of_all_parts_are_those_of_the_file(tmp_path, size):
    write_some_of_each(tmp_path)
    source = find_source(tmp_path)
    found, _, parts = by_parts(source, size)
    assert texts_of(found) == texts_of(source.documents())
    assert len(found) == 38 + 8 + 2
    assert (parts == 1) == (size == 1 << 20)
    # A row that is wrong can be found by the place that it is called by.
    assert any(re.search(r"rows\.jsonl from byte \d+ line 1$", d.name) for d in found) == (
        parts > 3
    )


def test_rows_that_are_joined_are_not_torn_apart(tmp_path):
    (tmp_path / "x.jsonl").write_text("".join(f'{{"text": "{i % 5} "}}\n' for i in range(50)))
    source = find_source(tmp_path / "x.jsonl", TextFields(document_start="^0"))
    found, tally, parts = by_parts(source, 1)
    assert ([d.text for d in found], parts) == (["0 1 2 3 4 "] * 10, 1)
    assert (tally.rows, tally.starts) == (50, 10)


def test_small_files_are_joined_and_packed_ones_are_whole(tmp_path):
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("x" * 10)
    source = find_source(tmp_path)
    assert [len(part) for part in source.parts(25)] == [3, 3, 3, 1]
    (tmp_path / "5.txt.gz").write_bytes(gzip.compress(bytes(range(256)) * 4))
    assert [len(part) for part in find_source(tmp_path).parts(25)] == [3, 3, 1, 3, 1]


def test_what_a_setting_finds_nowhere_is_said_of_all_parts_together(tmp_path):
    for name, text in (("a.txt", "one"), ("b.txt", "two|three")):
        (tmp_path / name).write_text(text)
    source = find_source(tmp_path, TextFields(separator="|"))
    _, tally, parts = by_parts(source, 1)
    assert parts > 2
    source.check_read(tally)
    (tmp_path / "b.txt").write_text("two three")
    source = find_source(tmp_path, TextFields(separator="|"))
    with pytest.raises(ValueError, match=r"'\|' occurs nowhere in 2 text files"):
        source.check_read(by_parts(source, 1)[1])
    (tmp_path / "x.fa").write_text(">a\nAC\n>b\nGT\n>a\nT\n")
    (tmp_path / "y.fa").write_text(">c\nAC\n")
    fields = TextFields(held_out="record:c,b")
    source = find_source([tmp_path / "x.fa", tmp_path / "y.fa"], fields)
    found, tally, parts = by_parts(source, 1)
    source.check_read(tally)
    assert [d.split for d in found] == ["train", "test", "train", "validation"]
    assert (parts, len(tally.notes), tally.others) == (2, 1, ["a"])


def test_a_part_does_not_end_within_a_character(tmp_path):
    (tmp_path / "x.txt").write_text("é|" * 50, encoding="utf-8")
    source = find_source(tmp_path / "x.txt", TextFields(separator="|"))
    for size in range(1, 12):
        found, _, _ = by_parts(source, size)
        assert [d.text for d in found] == ["é"] * 50 + [""]


def test_a_byte_that_is_no_text_is_told_by_its_place_in_the_file(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"one|two|three|f\xffur|five")
    source = find_source(tmp_path / "x.txt", TextFields(separator="|"))
    with pytest.raises(ValueError, match=r"x\.txt is not UTF-8 text: byte 0xff at offset 15 "):
        by_parts(source, 4)
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "a"}\n' * 3 + b'{"text": "\xff"}\n')
    with pytest.raises(ValueError, match=r"x\.jsonl is not UTF-8 text: byte 0xff at offset 52 "):
        by_parts(find_source(tmp_path / "x.jsonl"), 10)


def test_pieces_of_a_part_are_pieces(tmp_path):
    (tmp_path / "x.txt").write_text("one")
    source = find_source(tmp_path / "x.txt")
    (part,) = source.parts(100)
    (piece,) = source.pieces_of(part, Tally())
    assert isinstance(piece, Piece)
    assert not piece.more
