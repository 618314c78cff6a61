import gzip

import pytest

from hyena.genomes import Region, Variant, read_bed, read_vcf

BED = b"""\
# a comment
browser position chr7:127471196-127495720
track name="pairs" description="x"
chr7\t127471196\t127472363\tPos 1\t0\t+\t127471196\t127472363
chr7 5 5

track\tname=y
track1\t0\t9\t.\t0\t-
chr8\t0\t100
"""
REGIONS = [
    Region("chr7", 127471196, 127472363, "Pos 1", "+", 4),
    Region("chr7", 5, 5, "", ".", 5),
    Region("track1", 0, 9, "", "-", 8),
    Region("chr8", 0, 100, "", ".", 9),
]
VCF = b"""\
##fileformat=VCFv4.3
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
20\t14370\trs6054257\tG\tA\t29\tPASS\tDP=14
20\t17330\t.\tt\tA,<DEL>,*\t3\tq10\t.
20\t1234567\tmicrosat1\tGTC\tG,GTCT\t50\tPASS\t.
20\t1230237\t.\tT\t.\t47\tPASS\t.

X\t1\tbnd_U\tC\tC[2:321682[\t6\tPASS\t.
"""
VARIANTS = [
    Variant("20", 14370, "rs6054257", "G", ("A",), 3),
    Variant("20", 17330, "", "t", ("A", "<DEL>", "*"), 4),
    Variant("20", 1234567, "microsat1", "GTC", ("G", "GTCT"), 5),
    Variant("20", 1230237, "", "T", (), 6),
    Variant("X", 1, "bnd_U", "C", ("C[2:321682[",), 8),
]


@pytest.mark.parametrize(
    ("read", "data", "expected"), [(read_bed, BED, REGIONS), (read_vcf, VCF, VARIANTS)]
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_tables_of_every_form(tmp_path, read, data, expected, end):
    data = data.replace(b"\n", end)
    marked = b"\xef\xbb\xbf" + data
    for name, content in (("x", data), ("x.gz", gzip.compress(data)), ("y", marked)):
        (tmp_path / name).write_bytes(content)
        assert list(read(tmp_path / name)) == expected


def test_a_table_of_comments_has_no_rows(tmp_path):
    (tmp_path / "x").write_bytes(b"##fileformat=VCFv4.3\n#CHROM\tPOS\n")
    assert list(read_vcf(tmp_path / "x")) == list(read_bed(tmp_path / "x")) == []


@pytest.mark.parametrize(
    ("read", "line", "message"),
    [
        (read_bed, b"chr1\t5", "expected 3 columns or more .*, got 'chr1.*5'"),
        (read_bed, b"chr1\t5\tx", "expected a whole number as end, got 'x'"),
        (read_bed, b"chr1\t-5\t7", "expected a whole number as start, got '-5'"),
        (read_bed, b"chr1\t1_0\t70", "expected a whole number as start, got '1_0'"),
        (read_bed, b"chr1\t9\t7", "the region ends at 7, before its start 9"),
        (read_bed, b"chr1\t" + b"9" * 5000 + b"\t7", "expected a whole number as start, got '999"),
        (read_bed, b"chr1\t1\t7\tx\t0\tforward", "expected a strand of '.', '-' or '.', got 'forw"),
        (read_vcf, b"chr1 5 . A C", "expected 5 columns or more with tabs between them"),
        (read_vcf, b"chr1\tA\t.\tA\tC", "expected a whole number as POS, got 'A'"),
        (read_vcf, b"chr1\t0\t.\tA\tC", "POS counts from 1, got 0"),
        (read_vcf, b"chr1\t5\t.\t<X>\tC", "expected the bases of the reference as REF, got '<X>'"),
        (read_vcf, b"chr1\t5\t.\t\tC", "expected the bases of the reference as REF, got ''"),
        (read_vcf, b"chr1\t5\t.\tA\tC,,G", "an allele of ALT is empty: 'C,,G'"),
        (read_vcf, b"chr1\t5\t.\tA\t", "an allele of ALT is empty: ''"),
    ],
)
def test_a_bad_line_is_told_or_left_out(tmp_path, read, line, message):
    good = b"a\t1\t2\n" if read is read_bed else b"a\t1\t.\tA\tC\n"
    path = tmp_path / "x"
    path.write_bytes(good + line + b"\n" + good)
    with pytest.raises(ValueError, match=f"x line 2: {message}") as error:
        list(read(path))
    assert str(error.value).isprintable()
    errors = []
    assert [row.line for row in read(path, on_error=errors.append)] == [1, 3]
    assert [str(error) for error in errors] == [str(error.value)]


def test_files_of_other_kinds(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(b"BCF\2\2\x10\0\0\0##fileformat"))
    with pytest.raises(ValueError, match="x is a binary file; write it as text first"):
        list(read_vcf(path))
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="x is empty"):
        list(read_bed(path))
    path.write_bytes(gzip.compress(VCF)[:-12])
    with pytest.raises(ValueError, match="x is not gzip, or damaged"):
        list(read_vcf(path))
    path.write_bytes(b">chr1\nACGT\n")
    with pytest.raises(ValueError, match="x line 1: expected 5 columns or more"):
        list(read_vcf(path))
