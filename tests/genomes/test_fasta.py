import gzip
import random

import numpy as np
import pytest
from packing import bgzip

from hyena.genomes import Fasta, read_sequences, unpacked


def genome(seed=0, size=50_000):
    """FASTA with lines of changing lengths, blank ones and white space, in all kinds of ends."""
    random_ = random.Random(seed)
    text = b""
    for number in range(4):
        text += f">chr{number} of a genome\n".encode()
        left = 0 if number == 1 else size
        while left > 0:
            line = bytes(random_.choices(b"ACGTNacgt", k=random_.choice((0, 1, 7, 60, 60, 9_000))))
            text += line + random_.choice((b" ", b"\t", b"\n", b"\r\n", b"\r", b"\n\n"))
            left -= len(line)
        text += b"\n"
    return text


DATA = genome()
FORMS = {"x.fa": DATA, "x.fa.gz": gzip.compress(DATA), "x.fa.bgz": bgzip(DATA, 5000)}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("block", [512, 1 << 16])
def test_any_part_is_that_of_the_whole_record(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr(unpacked, "BLOCK", block)
    monkeypatch.setattr(unpacked, "FAR", 4000)
    monkeypatch.setattr(unpacked, "NEAR", 1)
    (tmp_path / name).write_bytes(FORMS[name])
    records = {record.name: record.sequence for record in read_sequences(tmp_path / name)}
    fasta = Fasta(tmp_path / name)
    assert fasta.path == tmp_path / name
    assert fasta.names == ("chr0", "chr1", "chr2", "chr3") == tuple(records)
    draws = random.Random(1)
    for record, sequence in records.items():
        length = len(sequence)
        assert fasta.length(record) == length
        assert fasta.fetch(record) == sequence
        edges = (0, 1, length - 1, length)
        parts = [(a, b) for a in edges for b in edges if 0 <= a <= b <= length]
        parts += [sorted(draws.randint(0, length) for _ in range(2)) for _ in range(20)]
        for start, end in parts:
            assert fasta.fetch(record, start, end) == sequence[start:end]
    assert fasta.fetch("chr0", np.int64(3)) == records["chr0"][3:]


def test_a_part_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "g.fa").write_bytes(b">1\nACGT\n>2\nA\n>2 again\nC\n>3\n\n")
    fasta = Fasta(tmp_path / "g.fa")
    for start, end in ((0, 5), (-1, 2), (3, 2), (5, None)):
        with pytest.raises(ValueError, match=r"g\.fa record '1' has 4 bases, but .* were asked"):
            fasta.fetch("1", start, end)
    with pytest.raises(ValueError, match=r"start: expected a whole number, got 0\.5"):
        fasta.fetch("1", 0.5)
    with pytest.raises(
        ValueError, match=r"g\.fa has no record 'chr1'; it has '1', '2', '3': is it of another gen"
    ):
        fasta.length("chr1")
    with pytest.raises(ValueError, match=r"g\.fa has several records '2', in lines 3 and 5; give"):
        fasta.fetch("2", 0, 1)
    assert fasta.fetch("3") == b""


def test_a_file_of_another_kind_or_that_changes_is_one_line(tmp_path):
    path = tmp_path / "g.fa"
    path.write_bytes(b">p\nMEL\n")
    with pytest.raises(ValueError, match=r"g\.fa line 2: '[EM]' in the sequence of 'p' is no nucl"):
        Fasta(path)
    path.write_bytes(b"\n\n")
    with pytest.raises(ValueError, match=r"g\.fa has no record"):
        Fasta(path)
    path.write_bytes(b">a\nACGT\n")
    fasta = Fasta(path)
    path.write_bytes(b">a\nACGTA\n")
    with pytest.raises(ValueError, match=r"g\.fa was changed while it was read"):
        fasta.fetch("a")


def test_a_part_is_read_without_the_rest(tmp_path, monkeypatch):
    data = b">a\n" + b"ACGT" * 500_000
    for name, content in (("x.fa", data), ("x.fa.gz", gzip.compress(data, 1))):
        (tmp_path / name).write_bytes(content)
        monkeypatch.setattr(unpacked, "FAR", 1 << 18)
        fasta = Fasta(tmp_path / name)
        sizes = []
        inner = fasta._file.blocks
        monkeypatch.setattr(
            fasta._file,
            "blocks",
            lambda start, inner=inner, sizes=sizes: (
                sizes.append(len(block)) or block for block in inner(start)
            ),
        )
        assert fasta.fetch("a", 1_500_001, 1_500_006) == b"CGTAC"
        assert sum(sizes) <= 3 << 16
