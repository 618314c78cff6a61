"""Genomes of bacteria: found in folders, fetched from Debian or made up; and which are held out."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from bacteria_genes import PROTEIN
from packages import fetched_package, run

from hyena.data.readers import kind_of
from hyena.files.atomic import staged
from hyena.genomes import reverse_complement

PACKAGE, VERSION = "ragout-examples", "2.3-4"
"""Debian's, of 16 genomes of four species; the two of E. coli are both of its strain K-12."""
DIGEST = "cbe6d0dd8b0e36ef2c93c9b9655955f42019dcd9e9b77388ee58ee54d50bd140"
"""SHA-256 of the package."""
_IN_PACKAGE = "usr/share/doc/ragout/examples/*/references/*.fasta.gz"  # contigs repeat some of them


class Strain(NamedTuple):
    """A genome: its species, its name, and its file."""

    species: str
    name: str
    file: Path


def find_strains(folder: Path, table: Path | None = None) -> list[Strain]:
    """The FASTA files in a folder, at any depth. The folder that a file is in is its species.

    Args: table: says the species instead, a line a file: its place in the folder, a tab, a species.
    Raises: ValueError if there are none, or on a line of the table that is none; OSError.
    """
    found = []
    if table is None:
        for path in folder.rglob("*"):
            if kind_of(path.name) == "fasta" and path.is_file():
                found.append(Strain(path.parent.name, path.name.partition(".")[0], path))
    else:
        for number, line in enumerate(table.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            file, _, species = (part.strip() for part in line.partition("\t"))
            path = folder / file
            if not species or not path.is_file():
                raise ValueError(
                    f"{table} line {number}: expected a file in {folder}, a tab and a species, "
                    f"got {line!r:.80}"
                )
            found.append(Strain(species, path.name.partition(".")[0], path))
    if not found:
        raise ValueError(f"{folder} has no FASTA files; expected SPECIES/STRAIN.fasta in it")
    return sorted(found)


def split(strains: Sequence[Strain]) -> tuple[list[Strain], list[Strain]]:
    """Those to learn from and those to hold out: of each species a quarter, and at least one.

    A species with a single strain is left out.
    Raises: ValueError if fewer than two species are left.
    """
    known: list[Strain] = []
    held_out: list[Strain] = []
    for _, group in groupby(sorted(strains), key=lambda strain: strain.species):
        of_species = list(group)
        if len(of_species) > 1:
            count = max(1, len(of_species) // 4)
            known += of_species[:-count]
            held_out += of_species[-count:]
    if len({strain.species for strain in known}) < 2:
        species = ", ".join(sorted({strain.species for strain in strains}))
        raise ValueError(
            "expected two species or more of two strains or more each, got "
            f"{len(strains)} strains of {species}"
        )
    return known, held_out


def fetched(folder: Path) -> Path:
    """The genomes of the Debian package in a folder, where they are put if they are not there, as
    SPECIES/STRAIN.fasta.gz.

    Raises: RuntimeError if they cannot be fetched; ValueError if the package is another one;
        OSError.
    """
    genomes, package = folder / "genomes", folder / f"{PACKAGE}_{VERSION}_all.deb"
    if genomes.is_dir():
        return genomes
    advice = "try apt-get update (Debian 12), or give a folder of genomes with --genomes"
    fetched_package(["apt-get", "download", f"{PACKAGE}={VERSION}"], package, DIGEST, advice)
    with TemporaryDirectory(dir=folder) as place:  # what is left when interrupted is gone
        run(["dpkg-deb", "--extract", str(package.resolve()), "."], place, advice)
        with staged(genomes) as ready:
            for path in Path(place).glob(_IN_PACKAGE):
                species = ready / path.parent.parent.name
                species.mkdir(exist_ok=True)
                path.rename(species / path.name)
    return genomes


def make_up(folder: Path) -> None:
    """Three species with codons of their own and four strains each, as FOLDER/SPECIES/STRAIN.fasta.

    Genes stand on both strands. A strain has another base at one place in a hundred or so.
    """
    generator = np.random.default_rng(0)
    codons = [codon for codon, acid in PROTEIN.items() if acid != "*"]
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    for species in ("alpha", "beta", "gamma"):
        of_codons = generator.dirichlet(np.full(len(codons), 0.5))
        of_letters = generator.dirichlet(np.full(4, 5.0))
        parts = []
        for _ in range(60):
            parts.append(generator.choice(letters, size=100, p=of_letters).tobytes())
            chosen = generator.choice(len(codons), size=120, p=of_codons)
            gene = b"".join([b"ATG", *(codons[i] for i in chosen), b"TAA"])
            parts.append(gene if generator.integers(2) else reverse_complement(gene))
        genome = np.frombuffer(b"".join(parts), dtype=np.uint8)
        (folder / species).mkdir(parents=True, exist_ok=True)
        for strain in range(1, 5):
            changed = generator.random(len(genome)) < 0.01
            own = np.where(changed, generator.choice(letters, size=len(genome)), genome)
            text = f">{species}{strain}\n{own.tobytes().decode()}\n"
            (folder / species / f"{species}{strain}.fasta").write_text(text)
