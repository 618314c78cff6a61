"""Genomes and what is read beside them, and models in the files of other programs, all tiny."""

import gzip
import json
from pathlib import Path

import torch

import hyena
from hyena.interop import convert
from hyena.model.config import StripedConfig

FASTA = f""">a the first
ACGTTGCATTACGGATCCAT
gcatcagtcagtttacgactagcatcagc
>b
{12 * "N"}ACGT{12 * "n"}RYACGT
>c
ACGGATCCATGCATTACGTTGCAACGTTGCATT
"""
READS = ("ACGTACGTAC", "TTGACCA", "GATTACA", "CCGTANC")
FASTQ = "".join(f"@r{i} x\n{read}\n+\n{len(read) * 'I'}\n" for i, read in enumerate(READS))
VCF = """##fileformat=VCFv4.3
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO
a\t5\trs1\tT\tA,<DEL>\t.\t.\t.
a\t11\t.\tACG\tA\t.\t.\t.
c\t1\t.\tA\tAT\t.\t.\t.
"""
BED = "a\t0\t10\tfirst\t0\t+\nc\t3\t20\tsecond\t0\t-\n"
ROWS = 20  # that can be scored, before one that cannot

MODELS = {  # by the kind of the files that they are written as
    "safari": hyena.ModelConfig(
        vocab_size=12,
        width=8,
        layers=1,
        mlp_width=8,
        max_length=12,
        filter=hyena.FilterConfig(emb_dim=3, width=4, shift=0.05),
    ),
    "stripedhyena2": hyena.ModelConfig(
        vocab_size=12,
        width=8,
        layers=4,
        mlp_width=8,
        max_length=12,
        mixers="hyena-se,hyena-mr,hyena-li,attention",
        head_dim=4,
        norm="rms",
        mlp="gated",
        activation="gelu",
        in_proj_bias=False,
        striped=StripedConfig(groups=4, short_taps=3, medium_taps=5, medium_decay=False, modes=2),
    ),
}


def make(folder: Path) -> None:
    """Writes them into a folder."""
    folder.mkdir()
    (folder / "genome.fa").write_text(FASTA)
    (folder / "genome.fa.gz").write_bytes(gzip.compress(FASTA.encode(), mtime=0))
    (folder / "reads.fastq").write_text(FASTQ)
    (folder / "variants.vcf").write_text(VCF)
    (folder / "regions.bed").write_text(BED)
    rows = [{"text": "ACGTACGTAC"[: i % 9 + 2], "name": f"s{i}"} for i in range(ROWS)]
    lines = [json.dumps(row) for row in (*rows, {"text": 3})]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    for name, config in MODELS.items():
        torch.manual_seed(0)
        own = folder / f"own-{name}"
        hyena.LanguageModel(config).save(own)
        convert(own, folder / name, to=name)
    convert(folder / "own-safari", folder / "hyenadna-hf", to="hyenadna-hf")
