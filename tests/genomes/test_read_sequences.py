"""FASTA and FASTQ as they come: against a slow reader of FASTA, and by example."""

import gzip
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packing import bgzip

from hyena.genomes import Record, read_sequences, unpacked
from hyena.genomes.parts import fasta_parts, letters


def slow(data):
    """The records of FASTA, line by line: [name, description, line, sequence]."""
    records = []
    for number, line in enumerate(re.split(rb"\r\n?|\n", data), start=1):
        if line.startswith(b">"):
            name, description = (*line[1:].decode().split(maxsplit=1), "", "")[:2]
            records.append([name, description.strip(), number, b""])
        elif records:
            records[-1][3] += b"".join(line.split())
        elif line.strip():
            raise ValueError(f"line {number} ")
    return records


def fast(data, size):
    """The same through the parts of a text in blocks, and the places of these."""
    records, begins = [], True
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    for part in fasta_parts(blocks, "x"):
        assert data[part.place : part.place + len(part.raw)] == part.raw
        if begins:
            records.append([part.name, part.description, part.line, b""])
        records[-1][3] += letters(part)
        begins = not part.more
    assert begins
    return records


_PIECES = [b">", b">a", b">b one two", b"\n", b"\r", b"\r\n", b"ACGT", b"n", b" ", b"\t", b"G>C"]


@given(st.lists(st.sampled_from(_PIECES), max_size=12).map(b"".join), st.integers(1, 9))
def test_records_are_those_of_a_slow_reader_for_any_blocks(data, size):
    try:
        expected = slow(data)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error) + "is no FASTA: a record begins with '>'"):
            fast(data, size)
    else:
        assert fast(data, size) == expected


FASTA = b"\n>chr1 first one\nACgt\nN N\n\n>chr2\n>  chr3\tx  \nRYacg\n>chr2 again\nU\n"
RECORDS = [
    Record("chr1", "first one", b"ACgtNN", 2),
    Record("chr2", "", b"", 6),
    Record("chr3", "x", b"RYacg", 7),
    Record("chr2", "again", b"U", 9),
]
FORMS = {
    "x.fa": FASTA,
    "x.fa.gz": gzip.compress(FASTA),
    "x.fna.bgz": bgzip(FASTA, 7),
    "windows.fa": FASTA.replace(b"\n", b"\r\n"),
    "old.fa": FASTA.replace(b"\n", b"\r"),
    "mark.fa": b"\xef\xbb\xbf" + FASTA,
    "no_end.fa": FASTA.removesuffix(b"\n"),
    "any.txt": FASTA,
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_fasta_gives_the_same_records(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    assert list(read_sequences(tmp_path / name)) == RECORDS


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["x.fa", "x.fna.bgz", "windows.fa", "old.fa"])
def test_records_do_not_depend_on_the_blocks(tmp_path, monkeypatch, name, size):
    (tmp_path / name).write_bytes(FORMS[name])
    monkeypatch.setattr(unpacked, "BLOCK", size)
    assert list(read_sequences(tmp_path / name)) == RECORDS


def test_a_record_in_one_line_of_many_blocks(tmp_path):
    (tmp_path / "x.fa").write_bytes(b">a\n" + b"ACGT" * 100_000 + b"\n>b\nA")
    (a, b) = read_sequences(tmp_path / "x.fa")
    assert (a.sequence, b.sequence, b.line) == (b"ACGT" * 100_000, b"A", 3)


FASTQ = b"@r1 one\nACGT\n+\n!!!!\n\n@r2\nAC\nGN\n+r2\n@@\n+>\n@r3\n\n+\n\n@r4\na\n+\n@"
READS = [
    Record("r1", "one", b"ACGT", 1),
    Record("r2", "", b"ACGN", 6),
    Record("r3", "", b"", 12),
    Record("r4", "", b"a", 16),
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_fastq_with_lines_of_any_kind(tmp_path, end):
    data = FASTQ.replace(b"\n", end)
    for name, content in (("x.fq", data), ("x.fastq.gz", gzip.compress(data)), ("x", data)):
        (tmp_path / name).write_bytes(content)
        assert list(read_sequences(tmp_path / name)) == READS


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"ACGT\n", r"x line 1 is no FASTA: a record begins with '>', got 'A"),
        (b"\n\n ACGT\n>a\n", r"x line 3 is no FASTA: .* got 'A"),
        (b" \n\n", r"x has no record: expected lines that begin with '>' or '@'"),
        (b"", r"x is empty"),
        (
            b">sp|P1 protein\nMKV\nELF*\n",
            r"x line 3: 'E' in the sequence of 'sp\|P1' is no nucleotide",
        ),
        (b">a\nACGT\n>b\r\nAC\r\nA-C\n", r"x line 5: '-' in the sequence of 'b' is no nucleotide;"),
        (b">a\nAC\xe9\n", r"x line 2: byte 0xe9 in the sequence of 'a' is no nucleotide"),
        (b">a\nAC\0\n", r"x line 2: byte 0x00 in the sequence of 'a' is no nucleotide"),
        (b"@r\nAC\n+\n!!!\n", r"x line 1: the record 'r' has 2 letters, but 3 qualities or more"),
        (b"@r\nAC\n+\n!", r"x line 1: the file ends within the record 'r'"),
        (b"@r\nAC\n", r"x line 1: the file ends within the record 'r'"),
        (b"@r\nAC\n+\n!!\nAC\n", r"x line 5 is no FASTQ: a record begins with '@', .* got 'AC'"),
        (b"@r\nAE\n+\n!!\n", r"x line 2: 'E' in the sequence of 'r' is no nucleotide"),
        (
            b"@q\nA\n+\n!\n\n@r\nA C\n\n\tE\n+\n!!!\n",
            r"x line 9: 'E' in the sequence of 'r' is no nuc",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 1 << 16])
def test_what_is_no_file_of_nucleotides_is_one_line(tmp_path, monkeypatch, data, message, size):
    (tmp_path / "x").write_bytes(data)
    monkeypatch.setattr(unpacked, "BLOCK", size)
    with pytest.raises(ValueError, match=message) as error:
        list(read_sequences(tmp_path / "x"))
    assert "\n" not in str(error.value)


def test_records_of_other_letters_are_left_out_if_errors_are_taken(tmp_path):
    errors = []
    (tmp_path / "x.fa").write_bytes(b">a\nAC\n>p\nMEL\nMEL\n>q\nE\n>b\nGT\n")
    found = list(read_sequences(tmp_path / "x.fa", on_error=errors.append))
    assert [record.name for record in found] == ["a", "b"]
    assert ["'p'" in str(errors[0]), "'q'" in str(errors[1]), len(errors)] == [True, True, 2]
    (tmp_path / "x.fq").write_bytes(b"@a\nE\n+\n!\n@b\nA\n+\n!\n")
    found = list(read_sequences(tmp_path / "x.fq", on_error=errors.append))
    assert [record.name for record in found] == ["b"]
    (tmp_path / "x.fa").write_bytes(b">p\nE\n")
    assert list(read_sequences(tmp_path / "x.fa", on_error=errors.append)) == []
    (tmp_path / "x.fa.gz").write_bytes(gzip.compress(FASTA)[:-9])
    with pytest.raises(ValueError, match=r"x\.fa\.gz is not gzip, or damaged"):
        list(read_sequences(tmp_path / "x.fa.gz", on_error=errors.append))
