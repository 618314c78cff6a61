"""Sequences of files, with names, and in place of a bad one what is wrong with it."""

import gzip
import json
from pathlib import Path

import pytest

from hyena.data import Document
from hyena.genomes import Fasta
from hyena.scoring.reading import read, read_regions, size_of


def found(file: Path, **options: str) -> list[tuple[str, str, bool]]:
    """Name, text, and whether there is none, of each."""
    return [(one.name, one.text, one.lacks is not None) for one in read(file, **options)]


def test_each_line_of_a_text_is_a_sequence(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\n\n  \ntwo \x0bmore\nthree")
    expected = [
        ("line 1", "one", False),
        ("line 4", "two \x0bmore", False),
        ("line 5", "three", False),
    ]
    assert found(file) == expected
    packed = tmp_path / "a.txt.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert found(packed) == expected
    assert size_of(file) == len(file.read_bytes())
    assert size_of(packed) is None


def test_a_bad_line_says_in_its_place_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"one\n\xff\xfe\ntw\0o\nthree\n")
    first, second, third, fourth = read(file)
    assert (first.text, fourth.text) == ("one", "three")
    assert second.lacks is not None
    assert second.lacks.startswith(f"{file} is not UTF-8 text: byte 0xff at offset 4")
    assert third.lacks == "it has a byte 0x00: it is no text, or UTF-16"


def test_rows_of_json_lines_have_names(tmp_path: Path) -> None:
    rows = [
        {"text": "one", "name": "first\none"},
        {"text": "two", "id": 7},
        {"text": "three", "name": "", "id": True},
        {"text": "four", "name": None},
        {"text": "five", "name": "half \ud83d"},
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("\n\n".join(map(json.dumps, rows)))
    assert found(file) == [
        ("first one", "one", False),
        ("7", "two", False),
        ("line 5", "three", False),
        ("line 7", "four", False),
        ("half ?", "five", False),
    ]
    assert found(file, field="name")[0] == ("first one", "first\none", False)


def test_bad_rows_say_in_their_place_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    nested = "[" * 100_000
    file.write_text(f'{{"text": 3}}\n{{"txt": "a"}}\n"a"\n{{\n{nested}\n{{"text": "a"}}\n')
    documents = list(read(file))
    assert [one.lacks is None for one in documents] == [False] * 5 + [True]
    reasons = [str(one.lacks) for one in documents]
    assert reasons[0] == "field 'text' should hold text, but holds int"
    assert reasons[1] == "no field 'text' among 'txt'"
    assert reasons[2] == "expected an object with field 'text', got 'a'"
    assert reasons[3].startswith("it is not JSON: Expecting property name")
    assert reasons[4].startswith("it is not JSON")
    assert not any("\n" in reason for reason in reasons)


FASTA = ">one first record\nACGT\nacgtn\n\n>two\n>two\nRYK\n>\nGG\n"


@pytest.mark.parametrize("name", ["a.fa", "a.fasta.gz", "a.FNA"])
def test_records_of_fasta_are_folded_or_kept(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    packed = name.endswith(".gz")
    file.write_bytes(gzip.compress(FASTA.encode()) if packed else FASTA.encode())
    expected = [("one", "ACGTACGTN"), ("two", ""), ("two", "RYK"), ("record 4", "GG")]
    assert [(n, text) for n, text, _ in found(file)] == expected
    assert found(file, soft_masked="keep")[0] == ("one", "ACGTacgtn", False)


def test_records_of_fastq(tmp_path: Path) -> None:
    file = tmp_path / "a.fq"
    file.write_text("@one\nACGT\n+\nIIII\n@two\nac\n+\n@@\n")
    assert found(file) == [("one", "ACGT", False), ("two", "AC", False)]


def test_a_protein_says_in_its_place_that_it_is_none(tmp_path: Path) -> None:
    file = tmp_path / "a.fa"
    file.write_text(">one\nACGT\n>protein\nMEEPQ\n>two\nAC\n>last\nLLLL\n")
    first, second, third, fourth = read(file)
    assert (first.name, third.name) == ("one", "two")
    assert (second.name, fourth.name) == ("record 2", "record 4")
    for bad, line in ((second, 4), (fourth, 8)):
        assert bad.lacks is not None
        assert f"{file} line {line}" in bad.lacks
        assert "is no nucleotide" in bad.lacks


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("a.json", b"x", ValueError, "is of no known kind"),
        ("a.csv", b"a,b\nx,y\n", ValueError, "has no column .text.; it has .a., .b."),
        ("a.tsv", b"text\nx\ty\n", ValueError, "a.tsv line 2: expected 1 cell as the first line"),
        ("a", b"x", ValueError, "is of no known kind"),
        ("a.txt.gz", b"x", ValueError, "is not gzip, or damaged"),
        ("a.txt.gz", gzip.compress(b"x" * 99)[:-9], ValueError, "is not gzip, or damaged"),
        ("a.txt", None, FileNotFoundError, "does not exist"),
        (".", None, ValueError, "which is no file"),
        ("a.fa", b"", ValueError, "is empty"),
        ("a.fa", b"ACGT\n", ValueError, "is no FASTA"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_line(
    name: str, content: bytes | None, error: type[Exception], message: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(error, match=message) as problem:
        list(read(file))
    assert str(file) in str(problem.value)
    assert "\n" not in str(problem.value)


def test_what_is_read_are_documents(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    assert list(read(file)) == [Document("line 1", "one")]


@pytest.fixture
def genome(tmp_path: Path) -> Fasta:
    file = tmp_path / "g.fa"
    file.write_text(">chr1\nACGT\nacgtn\n>chr2\nTTTA\n")
    return Fasta(file)


def table(folder: Path, *rows: str) -> Path:
    file = folder / "r.bed"
    file.write_text("# peaks\n" + "".join(f"{row}\n" for row in rows))
    return file


def test_regions_are_read_in_their_order_and_direction(genome: Fasta, tmp_path: Path) -> None:
    rows = [
        "chr2\t1\t4\tends here\t7\t+",
        "chr1\t2\t9\tturned\t7\t-\t0\t0\t0\t1\t7\t0",
        "chr1\t0\t4\t.\t7\t.",
        "chr1 3 5",
        "chr1\t3\t5\t\t7\t-",
        "chr2\t1\t4\tends here",
    ]
    file = table(tmp_path, *rows)
    kept = [
        ("ends here", "TTA"),
        ("turned", "nacgtAC"),
        ("chr1:0-4", "ACGT"),
        ("chr1:3-5", "Ta"),
        ("chr1:3-5(-)", "tA"),
        ("ends here", "TTA"),
    ]
    assert list(read_regions(file, genome, soft_masked="keep")) == [Document(*one) for one in kept]
    folded = [Document(name, bases.upper()) for name, bases in kept]
    assert list(read_regions(file, genome)) == folded
    for after in range(8):
        assert list(read_regions(file, genome, after=after)) == folded[after:]


def test_a_region_that_is_not_there_says_so_in_its_place(genome: Fasta, tmp_path: Path) -> None:
    rows = ["chr1\t5\t10\tlong", "chrX\t0\t1", "chr1\t1\t2", "chr2\t4\t4\t.\t0\t-"]
    file = table(tmp_path, *rows)
    found = list(read_regions(file, genome))
    assert [one.name for one in found] == ["long", "chrX:0-1", "chr1:1-2", "chr2:4-4(-)"]
    assert found[2] == Document("chr1:1-2", "C")
    reasons = [
        f"{file} line 2: {genome.path} record 'chr1' has 9 bases, but 5 to 10 were asked for",
        f"{file} line 3: {genome.path} has no record 'chrX'; it has 'chr1', 'chr2'",
        f"{file} line 5: the region chr2:4-4(-) is empty",
    ]
    for one, reason in zip([found[0], found[1], found[3]], reasons, strict=True):
        assert one.lacks is not None
        assert one.lacks.startswith(reason)


def test_a_line_that_is_no_region_is_fatal_or_told(genome: Fasta, tmp_path: Path) -> None:
    file = table(tmp_path, "chr1\t1\t2", "chr1\t1", "chr1\t2\t4")
    with pytest.raises(ValueError, match=r"r\.bed line 3: expected 3 columns or more"):
        list(read_regions(file, genome))
    told: list[ValueError] = []
    found = list(read_regions(file, genome, on_error=told.append))
    assert [one.text for one in found] == ["C", "GT"]
    assert len(told) == 1


@pytest.mark.parametrize("name", ["a.csv", "a.tsv.gz"])
def test_the_cells_of_a_column_are_sequences(name: str, tmp_path: Path) -> None:
    rows = [("label", "text"), ("1", "ACGT"), ("0", ""), ("1", "the cat")]
    comma = "\t" if "tsv" in name else ","
    content = "".join(f"{comma.join(row)}\n" for row in rows).encode()
    file = tmp_path / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    expected = [("line 2", "ACGT", False), ("line 3", "", False), ("line 4", "the cat", False)]
    assert found(file) == expected
    assert [text for _, text, _ in found(file, field="label")] == ["1", "0", "1"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_rows_of_a_table_are_called_by_a_column_of_names(name: str, tmp_path: Path) -> None:
    file, comma = tmp_path / name, "\t" if "tsv" in name else ","

    def names(*rows: str) -> list[str]:
        file.write_text("".join(f"{row.replace(' ', comma)}\n" for row in rows))
        return [one.name for one in read(file)]

    assert names("id text", "rs7 ACGT", " AC", "rs8 ") == ["rs7", "line 3", "rs8"]
    assert names("text id name", "ACGT rs7 first", "AC rs8") == ["first", "rs8"]
    assert names("text ID", "ACGT rs7") == ["line 2"]
