import gzip
import io
import random
import zlib

import pytest
from packing import bgzip

from hyena.genomes import unpacked
from hyena.genomes.unpacked import Unpacked, check_last_block, inflated, lines

DATA = bytes(random.Random(0).choices(b"ACGT\n", k=300_000))
PACKED = {
    "x.fa": DATA,
    "x.fa.gz": gzip.compress(DATA, mtime=0),
    "x.bgz": bgzip(DATA),
    "members.gz": gzip.compress(DATA[:70_000]) + gzip.compress(DATA[70_000:]),
    "padded.gz": gzip.compress(DATA, mtime=0) + bytes(1000),
    "padded.bgz": bgzip(DATA) + bytes(1000),
    "joined.bgz": bgzip(DATA[:70_000]) + bgzip(DATA[70_000:]),
    "empty_members.gz": gzip.compress(b"") * 3 + gzip.compress(DATA) + gzip.compress(b""),
    "no_suffix": gzip.compress(DATA),
}


@pytest.fixture
def near(monkeypatch):
    """Marks as near as those of a file of gigabytes."""
    monkeypatch.setattr(unpacked, "NEAR", 1)
    monkeypatch.setattr(unpacked, "FAR", 10_000)


@pytest.mark.parametrize("name", PACKED)
def test_a_file_is_read_from_any_place(tmp_path, near, name):
    (tmp_path / name).write_bytes(PACKED[name])
    file = Unpacked(tmp_path / name)
    places = (0, 1, 9_999, 10_000, 69_999, 70_000, 200_003, len(DATA) - 1, len(DATA))
    for _ in range(2):  # before and after there are marks
        for place in (*places, *reversed(places)):
            assert b"".join(file.blocks(place)) == DATA[place:]


def test_marks_bound_what_is_unpacked_for_a_part(tmp_path, near):
    for name in ("x.fa.gz", "x.bgz"):
        (tmp_path / name).write_bytes(PACKED[name])
        file = Unpacked(tmp_path / name)
        assert sum(map(len, file.blocks())) == len(DATA)
        places = [mark.place for mark in file._marks]
        assert max(b - a for a, b in zip(places, [*places[1:], len(DATA)], strict=True)) <= 80_000
        assert sum(map(len, file.blocks())) == len(DATA)
        assert [mark.place for mark in file._marks] == places


def test_a_member_of_bgzip_needs_no_state(tmp_path):
    (tmp_path / "x.bgz").write_bytes(PACKED["x.bgz"])
    file = Unpacked(tmp_path / "x.bgz")
    assert b"".join(file.blocks()) == DATA
    assert [mark.place for mark in file._marks] == [*range(0, len(DATA), 0xFF00), len(DATA)]
    assert {mark.inflater for mark in file._marks} == {None}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_blocks_of_any_size_are_the_file(tmp_path, monkeypatch, size):
    data = DATA[:3000]
    for name, content in (("x", data), ("x.gz", gzip.compress(data)), ("y.gz", bgzip(data, 500))):
        (tmp_path / name).write_bytes(content)
        monkeypatch.setattr(unpacked, "BLOCK", size)
        found = list(Unpacked(tmp_path / name).blocks(1))
        assert b"".join(found) == data[1:]
        assert max(map(len, found)) <= size


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.fa", b"", "x.fa is empty; was it written to its end"),
        ("x.fa.gz", b"", "x.fa.gz is empty"),
        ("x.fa.gz", b">1\nACGT\n", "x.fa.gz is not gzip, or damaged: "),
        ("x.fa.gz", PACKED["x.fa.gz"][:-1], "or damaged: it ends before its end was marked"),
        ("x.fa.gz", PACKED["x.fa.gz"][:1000], "or damaged: it ends before its end was marked"),
        ("x.bgz", PACKED["x.bgz"][:40_000], "x.bgz is damaged: it is bgzip, but ends without the"),
        ("x.gz", PACKED["x.bgz"][:-28], "x.gz is damaged: it is bgzip, .* so it was cut off; copy"),
        ("x.gz", PACKED["x.bgz"][:-9], "or damaged: it ends before its end was marked"),
        ("x.gz", PACKED["x.fa.gz"][:-8] + bytes(8), "x.gz is not gzip, or damaged: .*incorrect"),
        ("x.gz", PACKED["x.fa.gz"] + b"more", "x.gz is not gzip, or damaged: "),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(Unpacked(tmp_path / name).blocks())
    assert "\n" not in str(error.value)


SHORT = gzip.compress(DATA[:500]) + gzip.compress(DATA[500:999])
SIZES = [(PACKED[name], size) for name in PACKED if name != "x.fa" for size in (1000, 1 << 20)]


@pytest.mark.parametrize(("packed", "size"), [*SIZES, (SHORT, 1), (SHORT, 7)])
def test_all_of_a_packed_file_comes_in_blocks_of_one_size(monkeypatch, packed, size):
    monkeypatch.setattr(unpacked, "_MANY_PACKED", 4000)
    found = list(inflated(io.BytesIO(packed), size))
    assert b"".join(found) == gzip.decompress(packed)
    assert {*map(len, found[:-1])} <= {size}
    assert 0 < len(found[-1]) <= size


@pytest.mark.parametrize("name", [name for name in PACKED if name != "x.fa"])
@pytest.mark.parametrize("part", [0.0, 0.5, 1.0])
def test_a_packed_file_that_is_cut_off_is_an_error_as_of_gzip(name, part):
    cut = PACKED[name][: 1 + round(part * (len(PACKED[name]) - 2))]
    if is_whole(cut):
        assert b"".join(inflated(io.BytesIO(cut), 1000)) == gzip.decompress(cut)
    else:
        with pytest.raises((EOFError, gzip.BadGzipFile, zlib.error)):
            list(inflated(io.BytesIO(cut), 1000))


def is_whole(data):
    """Whether it is what gzip reads to the end, such as a file without some of the zeros behind."""
    try:
        gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return True


def test_bgzip_that_is_cut_off_between_two_blocks_is_told():
    """Each start of a block is such a place; what is there is sound gzip."""
    packed = bgzip(DATA[:5000], 1000)
    magic = packed[:4]
    places = [at for at in range(1, len(packed)) if packed[at : at + 4] == magic]
    assert len(places) == 5
    for place in places:
        assert DATA.startswith(gzip.decompress(packed[:place]))
        with pytest.raises(EOFError, match="it is bgzip, but ends without the empty block that"):
            check_last_block(io.BytesIO(packed[:place]))
    for whole in (packed, packed + bytes(70), *(PACKED[name] for name in PACKED), b"", b"\x1f"):
        stream = io.BytesIO(whole)
        check_last_block(stream)
        assert stream.tell() == 0


def test_what_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was asked for, but there is no such file"):
        Unpacked(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a folder, a pipe or a device"):
        Unpacked(tmp_path)


def test_a_file_that_changes_is_told(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(DATA)
    file = Unpacked(path)
    path.write_bytes(DATA + b"A")
    with pytest.raises(ValueError, match="x was changed while it was read; start again"):
        list(file.blocks())


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_do_not_depend_on_blocks(size):
    text = b"one\ntwo\r\nthree\rfour\r\r\n\n\nlast"
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    expected = [b"one", b"two", b"three", b"four", b"", b"", b"", b"last"]
    assert list(lines(blocks)) == expected
    assert list(lines([])) == []
    assert list(lines([b"\xef\xbb\xbfa\n"])) == [b"a"]
