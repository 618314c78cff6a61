"""Genes by their reading frames, and what a substitution in one does to its protein.

A reading frame goes from the first ATG after a stop codon to the next stop codon. So genes that
begin with other codons are found too short, and some long frames are no genes: an annotation knows
better, but not every genome has one. Beside Prodigal's genes in 1.5 million bases of each strain
that the example holds out: of the places in our genes 99% are in one of its genes, 98% in the same
frame or more, and so are 3 to 7% of the places between ours.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena.genomes import reverse_complement

_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
PROTEIN = dict(zip(map(bytes, product(b"TCAG", repeat=3)), _ACIDS, strict=True))
"""The amino acid of each codon, * of those that end a gene (NCBI's table 11, of bacteria)."""

BETWEEN, SAME, OTHER = KINDS = ("between genes", "same protein", "other protein")
"""Where a substitution is, and what it does."""

_GENE, _FRAME = 300, 150  # bases of a frame that is taken for a gene, and of one that might be
_NO_GENE, _UNCLEAR = -1, -2


class Gene(NamedTuple):
    """A reading frame with its stop codon.

    Attributes:
        start: its first base on the given strand, counted from 0.
        end: the base behind its last one.
        forward: whether it is read on the given strand, rather than on the other one.
    """

    start: int
    end: int
    forward: bool


class Substitution(NamedTuple):
    """Another base at a position, counted from 0, and which of `KINDS` it is."""

    position: int
    base: str
    kind: str


def reading_frames(sequence: bytes, least: int) -> list[Gene]:
    """The reading frames of so many bases or more on both strands, in order of their starts.

    Args: sequence: nucleotides in upper case.
    """
    length = len(sequence)
    forward = [Gene(start, end, True) for start, end in _frames(sequence, least)]
    backward = [
        Gene(length - end, length - start, False)
        for start, end in _frames(reverse_complement(sequence), least)
    ]
    return sorted(forward + backward)


def _frames(sequence: bytes, least: int) -> Iterator[tuple[int, int]]:
    """Starts and ends of those on one strand."""
    letters = np.frombuffer(sequence, dtype=np.uint8).astype(np.int32)
    codons = (letters[:-2] << 16) + (letters[1:-1] << 8) + letters[2:]
    stops = [int.from_bytes(codon, "big") for codon, acid in PROTEIN.items() if acid == "*"]
    for frame in range(3):
        here = codons[frame::3]
        ends = np.flatnonzero(np.isin(here, stops))
        begins = np.flatnonzero(here == int.from_bytes(b"ATG", "big"))
        begins = np.append(begins, len(here))  # where there is none, behind all ends
        before = np.concatenate([[-1], ends])[:-1]  # the stop codon before each
        first = begins[np.searchsorted(begins, before, side="right")]
        long = 3 * (ends + 1 - first) >= least
        for start, end in zip(first[long].tolist(), ends[long].tolist(), strict=True):
            yield frame + 3 * start, frame + 3 * end + 3


def genes_of(sequence: bytes) -> tuple[list[Gene], NDArray[np.int64]]:
    """The genes of a sequence, and where they are.

    Genes are the reading frames of 300 bases or more, of those that overlap by more than a tenth
    the longest.

    Returns: the genes; for each position the place in this list of the gene that it is in, −2
        where it is unclear whether it is in one, and −1 where it is in none. Unclear are reading
        frames of 150 bases or more that are no genes, and what stands between a gene's first ATG
        and the stop codon before it, since the gene may begin there with another codon.
    """
    frames = reading_frames(sequence, _FRAME)
    owner = np.full(len(sequence), _NO_GENE)
    for start, end, _ in frames:
        owner[start:end] = _UNCLEAR
    genes: list[Gene] = []
    for frame in sorted(frames, key=lambda frame: frame.start - frame.end):
        of_frame = owner[frame.start : frame.end]
        if len(of_frame) >= _GENE and np.mean(of_frame >= 0) <= 0.1:
            of_frame[of_frame < 0] = len(genes)
            genes.append(frame)
    for gene in genes:
        before = owner[slice(*_opening(sequence, gene))]
        before[before == _NO_GENE] = _UNCLEAR
    return genes, owner


def _opening(sequence: bytes, gene: Gene) -> tuple[int, int]:
    """Where there is no stop codon before a gene, in its frame."""
    if gene.forward:
        at = gene.start
        while at >= 3 and PROTEIN.get(sequence[at - 3 : at]) != "*":
            at -= 3
        return at, gene.start
    at = gene.end
    while at + 3 <= len(sequence) and PROTEIN.get(reverse_complement(sequence[at : at + 3])) != "*":
        at += 3
    return gene.end, at


def changes_protein(sequence: bytes, gene: Gene, at: int, base: bytes) -> bool:
    """Whether another base at a position of a gene gives another amino acid, or ends the gene."""
    offset = (at - gene.start if gene.forward else gene.end - 1 - at) % 3
    first = at - offset if gene.forward else at + offset - 2
    codon = sequence[first : first + 3]
    changed = sequence[first:at] + base + sequence[at + 1 : first + 3]
    if not gene.forward:
        codon, changed = reverse_complement(codon), reverse_complement(changed)
    return PROTEIN.get(codon) != PROTEIN.get(changed)


def substitutions(
    sequence: bytes,
    ranges: Sequence[tuple[int, int]],
    count: int,
    generator: np.random.Generator,
) -> Iterator[Substitution]:
    """Substitutions at random places, each place once: of each of `KINDS` so many of each of the
    twelve changes of a base to another, or as many as there are.

    So kinds do not differ in which bases are changed, and to which.

    Args: nucleotides in upper case; where in them to choose places, by starts and ends.
    """
    genes, owner = genes_of(sequence)
    left = {(kind, *change): count for kind in KINDS for change in permutations("ACGT", 2)}
    places = np.concatenate([np.arange(start, end) for start, end in ranges])
    for at in generator.permutation(places).tolist():
        own, gene = chr(sequence[at]), owner[at]
        if own not in "ACGT" or gene == _UNCLEAR:
            continue
        base = "ACGT".replace(own, "")[int(generator.integers(3))]
        kind = BETWEEN
        if gene != _NO_GENE:
            kind = OTHER if changes_protein(sequence, genes[gene], at, base.encode()) else SAME
        if left[kind, own, base]:
            left[kind, own, base] -= 1
            yield Substitution(at, base, kind)
        if not any(left.values()):
            return
