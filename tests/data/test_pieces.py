import contextlib
import gzip
import json
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizer_kinds import KINDS

from hyena.data import PrepareConfig, TextFields, find_source, load_tokenizer, pieces, prepare
from hyena.data.documents import Document, Piece, WithoutText, encode_pieces
from hyena.data.utf8 import decode_blocks, decode_utf8

SIZES = (1, 2, 3, 7)


def blocks_of(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def result(function):
    try:
        return function()
    except ValueError as error:
        return str(error)


# What goes wrong, goes wrong at the first bytes of a character: pieces of them are likelier.
_PARTS = ["a", "\r\n", "é", "€", "\U0001f600", "\ufeff", "\0"]
_BYTES = [part.encode() for part in _PARTS] + [
    b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f", b"\xf4\x90", b"\x80", b"\xef\xbb"
]  # fmt: skip


@given(st.lists(st.sampled_from(_BYTES), max_size=8).map(b"".join), st.integers(1, 9))
def test_text_in_blocks_is_the_text_with_the_same_complaints(data, size):
    whole = result(lambda: decode_utf8(data, "x.txt"))
    assert result(lambda: "".join(decode_blocks(blocks_of(data, size), "x.txt"))) == whole


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_blocks_that_are_made_ahead_are_the_same(count):
    blocks = [bytes([i]) * 3 for i in range(count)]
    assert list(pieces.ahead(iter(blocks))) == blocks


def test_an_error_ahead_comes_in_its_place_and_nothing_is_left_behind():
    ended = []

    def blocks():
        try:
            yield b"a"
            yield b"b"
            raise EOFError("cut off")
        finally:
            ended.append(True)

    threads = threading.active_count()
    failing = pieces.ahead(blocks())
    found = [next(failing), next(failing)]
    with pytest.raises(EOFError, match="cut off"):
        next(failing)
    assert found == [b"a", b"b"]
    with contextlib.closing(pieces.ahead(blocks())) as some:
        assert next(some) == b"a"
    assert threading.active_count() == threads
    del some
    assert ended == [True, True]


@given(
    st.sampled_from([r"\n", r"\n\n", r"\r\n", r"\n\r\n", r"\n\r", "aa", "aba", "é|", "|"]),
    st.text("ab\r\né|\U0001f600", max_size=30),
    st.integers(1, 9),
)
def test_separators_cut_blocks_where_they_cut_the_text(separator, text, size):
    plain = separator.replace(r"\n", "\n").replace(r"\r", "\r")
    expected = re.split("\r?\n".join(map(re.escape, plain.split("\n"))), text)
    found = [""]
    for part, more in TextFields(separator=separator).cut(blocks_of(text, size)):
        found[-1] += part
        if not more:
            found.append("")
    assert found.pop() == ""  # nothing after the last one
    assert found == expected


TEXTS = [
    "we the people",
    "",
    " \n\t ",
    "  \r\n of\u2028é",
    "naïve \U0001f600 café" * 3,
    "the 1 a",
    "€",
]
TEXT = "\ufeff" + "|".join(TEXTS)
SOURCES = {
    "whole.txt": TEXT,
    "cut.txt": TEXT,
    "lines.md": TEXT.replace("|", "\r\n\r\n"),
    "x.txt.gz": TEXT,
    "x.fa": ">1\nACGTACGTAC\nGT acg \n>2\n>3 x\nAC\n",
    "old.fa": ">one x>\rACG>T\r\r>two\r\nACGTACGTAC>\r\n\n>3\rAC",
    "x.jsonl": "\n".join(json.dumps({"text": text}) for text in TEXT.split("|")),
}
SEPARATORS = {"cut.txt": "|", "lines.md": r"\n\n", "x.txt.gz": "the"}


@pytest.mark.parametrize("tokenizer", ["bytes", "byte_level", "metaspace"])
@pytest.mark.parametrize("name", SOURCES)
def test_token_files_do_not_depend_on_the_blocks(tmp_path, monkeypatch, name, tokenizer):
    KINDS[tokenizer].save(tmp_path / tokenizer)
    data = SOURCES[name].encode()
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)

    def files(out):
        settings = PrepareConfig(
            source=tmp_path / name,
            out=tmp_path / out,
            tokenizer=tmp_path / tokenizer,
            separator=SEPARATORS.get(name),
            validation=0.3 if name != "whole.txt" else 0,
            test=0,
        )
        directory = prepare(settings).directory
        return {path.name: path.read_bytes() for path in directory.iterdir()}

    whole = files("whole")
    for size in SIZES:
        monkeypatch.setattr(pieces, "BLOCK", size)
        assert files(f"out {size}") == whole


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SOURCES)
def test_documents_do_not_depend_on_the_blocks(tmp_path, monkeypatch, name, size):
    data = SOURCES[name].encode()
    (tmp_path / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
    source = find_source(tmp_path / name, TextFields(separator=SEPARATORS.get(name)))
    whole = list(source.documents())
    monkeypatch.setattr(pieces, "BLOCK", size)
    assert list(source.documents()) == whole
    assert max(len(piece.document.text) for piece in source.pieces()) <= 2 * size + 5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "data",
    [
        "éé\0é".encode(),
        b"\xef\xbb\xbfa\0",
        b"a\0b\xff",  # the second is said
        "text é".encode()[:-1],
        b"abc|\xe9t|\xe9",
        "text".encode("utf-16"),
    ],
)
def test_complaints_do_not_depend_on_the_blocks(tmp_path, monkeypatch, data, size):
    (tmp_path / "x.txt").write_bytes(data)
    source = find_source(tmp_path / "x.txt", TextFields(separator="|"))
    with pytest.raises(ValueError, match="is not") as whole:
        list(source.documents())
    monkeypatch.setattr(pieces, "BLOCK", size)
    with pytest.raises(ValueError, match="is not") as error:
        list(source.documents())
    assert str(error.value) == str(whole.value)


@pytest.fixture(scope="module")
def gpt2():
    return load_tokenizer("gpt2")


def test_only_where_tokens_stay_is_a_text_cut(gpt2):
    assert gpt2.last_cut("one two three four ") == len("one two three")
    assert gpt2.last_cut("one  two, three") == 0
    assert gpt2.last_cut("") == gpt2.last_cut(" ") == gpt2.last_cut(" a") == 0
    assert KINDS["byte_level"].last_cut("one two") == len("one")
    for kind in ("metaspace", "word_piece", "k_mers", "end_of_word", "byte_fallback"):
        assert KINDS[kind].last_cut("one two") == 0
    assert KINDS["bytes"].last_cut("one  é") == 6


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "NFC"}),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}),
        ("pre_tokenizer", None),
    ],
)
def test_a_tokenizer_that_reads_otherwise_cuts_nothing(tmp_path, part, value):
    KINDS["byte_level"].save(tmp_path)
    saved = json.loads((tmp_path / "tokenizer.json").read_text())
    file = tmp_path / "other.json"
    file.write_text(json.dumps({**saved, part: value}))
    assert load_tokenizer(file).last_cut("one two") == 0
    other = {"id": len(saved["model"]["vocab"]), "content": "we the", "special": False}
    saved["added_tokens"].append({**saved["added_tokens"][0], **other})
    file.write_text(json.dumps(saved))
    assert load_tokenizer(file).last_cut("one two") == 0


@given(text=st.text(st.sampled_from("ab 1²,'s\t\n\x1c\x85\u00a0é你")), size=st.integers(1, 9))
def test_gpt2_gives_the_same_tokens_for_pieces(gpt2, text, size):
    document = Document("x", "")
    parts = [Piece(document._replace(text=part), True) for part in blocks_of(text, size)]
    ends = Piece(document._replace(text="z"), False)
    found = list(encode_pieces([*parts, ends], gpt2, WithoutText()))
    assert [i for piece in found for i in piece.tokens.tolist()] == gpt2.encode(text + "z").tolist()
    assert sum(piece.n_bytes for piece in found) == len((text + "z").encode())
    assert [piece.more for piece in found] == [True] * (len(found) - 1) + [False]


def test_progress_goes_on_within_a_document(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "BLOCK", 4)
    (tmp_path / "x.txt").write_text("ten letters|two")
    config = PrepareConfig(tmp_path / "x.txt", tmp_path / "out", validation=0, test=0)
    seen = []
    prepare(config, progress=lambda *counts: seen.append(counts))
    assert seen == [(0, 4, 15), (0, 8, 15), (0, 12, 15), (1, 15, 15)]
