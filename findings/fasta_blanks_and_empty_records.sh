#!/usr/bin/env bash
# Four FASTA libraries, four answers to one small file; pysam 0.24.1 disagrees with itself.
#
# The file: bases in blocks of ten with a blank between (as GenBank prints them), a record without
# bases, and a name after a blank ("> c note"). No reader warns.
#   - blanks: Biopython drops them. pyfaidx, needletail and pysam's FastxFile keep them as bases.
#     pysam's FastaFile keeps the blank and gives as many characters as there are bases, so that
#     the last base is lost: the length agrees with Biopython's, the sequence does not.
#   - the record without bases: pysam's FastaFile leaves it out, the others have it as "". But
#     pyfaidx leaves it out too where pysam has been before: it takes the index that pysam left.
#   - "> c note": named c by pysam's FastaFile, pyfaidx and Biopython; "" by pysam's FastxFile;
#     " c note" by needletail, whose names are whole headers ("a first").
# So a data set prepared with one reader is not the one prepared with another; strip white space
# and cut names yourself.
#
# Seen: see EXPECTED below.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pysam==0.24.1 pyfaidx==0.9.2.2 biopython==1.88 needletail==0.7.3
cd "$folder"
printf '>a first\nACGTACGTAC GGGGGGGGGT\n>b\n> c note\nTT\n' >x.fa
venv/bin/python - <<'PYTHON'
import shutil

import needletail
import pyfaidx
import pysam
from Bio import SeqIO

shutil.copy("x.fa", "y.fa")
indexed = pysam.FastaFile("x.fa")  # writes x.fa.fai
alone, after_pysam = pyfaidx.Fasta("y.fa"), pyfaidx.Fasta("x.fa")
found = {
    "pysam FastaFile": [(name, indexed.fetch(name)) for name in indexed.references],
    "pysam FastxFile": [(r.name, r.sequence or "") for r in pysam.FastxFile("x.fa")],
    "pyfaidx": [(name, str(alone[name])) for name in alone.keys()],
    "pyfaidx, later": [(name, str(after_pysam[name])) for name in after_pysam.keys()],
    "Biopython": [(r.id, str(r.seq)) for r in SeqIO.parse("x.fa", "fasta")],
    "needletail": [(r.id, r.seq) for r in needletail.parse_fastx_file("x.fa")],
}
KEPT, DROPPED = "ACGTACGTAC GGGGGGGGGT", "ACGTACGTACGGGGGGGGGT"
EXPECTED = {
    "pysam FastaFile": [("a", KEPT[:-1]), ("c", "TT")],
    "pysam FastxFile": [("a", KEPT), ("b", ""), ("", "TT")],
    "pyfaidx": [("a", KEPT), ("b", ""), ("c", "TT")],
    "pyfaidx, later": [("a", KEPT), ("c", "TT")],
    "Biopython": [("a", DROPPED), ("b", ""), ("c", "TT")],
    "needletail": [("a first", KEPT), ("b", ""), (" c note", "TT")],
}
for reader, records in found.items():
    print(f"{reader:16}", records)
assert found == EXPECTED
PYTHON
