"""DNA for tests: random sequences, genes, and files of them."""

import itertools
from pathlib import Path

import numpy as np

STOPS = (b"TAA", b"TAG", b"TGA")


def random_dna(length: int, numbers: np.random.Generator, letters: bytes = b"ACGT") -> bytes:
    return numbers.choice(np.frombuffer(letters, dtype=np.uint8), size=length).tobytes()


def write(folder: Path, **strains: bytes) -> None:
    """FASTA files by species__strain."""
    for name, sequence in strains.items():
        species, _, strain = name.partition("__")
        (folder / species).mkdir(parents=True, exist_ok=True)
        (folder / species / f"{strain}.fa").write_bytes(b">1\n" + sequence + b"\n")


def gene_of(codons: int, numbers: np.random.Generator) -> bytes:
    """A gene of random codons that do not end it."""
    sense = [bytes(c) for c in itertools.product(b"ACGT", repeat=3) if bytes(c) not in STOPS]
    return b"ATG" + b"".join(sense[i] for i in numbers.integers(61, size=codons)) + b"TAA"
