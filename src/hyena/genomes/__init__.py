"""What genomes come in: sequences (FASTA, FASTQ), regions of them (BED) and variants (VCF).

All of these may be packed with gzip or bgzip. Needs no PyTorch.
"""

from .fasta import Fasta
from .nucleotides import reverse_complement
from .sequences import Record, read_sequences
from .tables import Region, Variant, read_bed, read_vcf

__all__ = [
    "Fasta",
    "Record",
    "Region",
    "Variant",
    "read_bed",
    "read_sequences",
    "read_vcf",
    "reverse_complement",
]
