"""What the commands that run a model over sequences are given."""

from pathlib import Path

TEXTS = ["the cat", "a", "the cat sat on the mat", "dog", "x" * 40]
GENOME = "ACGTTGCATTACGGATCCATGCATCAGTCAGTTTACGACTAGCATCAGCATCGAC"

# Rows of a BED table, and what they are of the genome.
REGIONS = {
    "chr1\t4\t24\tpeak one\t0\t+": ("peak one", "TGCATTACGGATCCATGCAT"),
    "chr1\t4\t24\tturned\t0\t-": ("turned", "ATGCATGGATCCGTAATGCA"),
    "chr1\t0\t8": ("chr1:0-8", "ACGTTGCA"),
    "chr1\t50\t55\t.\t0\t-": ("chr1:50-55(-)", "GTCGA"),
}


def write_genome(folder: Path) -> Path:
    """FASTA with lines of ten bases, some of them in lower case."""
    lines = [GENOME[i : i + 10] for i in range(0, len(GENOME), 10)]
    lines[1] = lines[1].lower()
    file = folder / "g.fa"
    file.write_text("\n".join([">chr1 a genome", *lines, ">chr2", "ACGT", ""]))
    return file


def write_regions(folder: Path, *rows: str) -> Path:
    """A BED table."""
    file = folder / "r.bed"
    file.write_text("".join(f"{row}\n" for row in ("track name=peaks", *rows)))
    return file


# Rows that are no regions of the genome, and what is said of them in line 3 of a table.
BAD_REGIONS = {
    "chr1\t50\t56\tlate": "late: {bed} line 3: {genome} record 'chr1' has 55 bases, but 50 to 56 w",
    "chr9\t0\t4": "chr9:0-4: {bed} line 3: {genome} has no record 'chr9'; it has 'chr1', 'chr2'",
    "chr1\t4\t4\t\t\t-": "chr1:4-4(-): {bed} line 3: the region chr1:4-4(-) is empty",
    "chr1\t8\t4": "{bed} line 3: the region ends at 4, before its start 8",
    "chr1\t4": "{bed} line 3: expected 3 columns or more",
    "chr1\t-4\t4": "{bed} line 3: expected a whole number as start, got '-4'",
}
