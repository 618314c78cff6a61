"""Windows of genomes to learn from and to be asked about, none of them near copies of each other.

Strains of a species are near copies, so to hold out a strain is not enough: a model could know its
sequence by heart from another one. So each held-out genome is cut into tiles, and every fourth is
in the test. A window to learn from, of whatever strain, shares next to no 21-mers with the test.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from bacteria_genomes import Strain
from bacteria_kmers import CODES
from numpy.typing import NDArray

from hyena.genomes import read_sequences, reverse_complement

LONG = 21
"""Bases of a k-mer that two places share because one is a copy of the other, not by chance."""
SHARED = 0.01
"""Share of its 21-mers that a window to learn from may have in common with the test."""

_EVERY = 4
_MARGIN = 64  # a tile has one of its length's 64th, which a window that is let in cannot cross


class Tile(NamedTuple):
    """A piece of a held-out genome: its strain, its first base counted from 0, and its bases."""

    strain: Strain
    start: int
    sequence: bytes


def genome_of(strain: Strain, least: int) -> bytes:
    """All records of a strain in upper case, with an N between them.

    Raises: ValueError if they have fewer bases than ``least``, or the file is no FASTA; OSError.
    """
    genome = b"N".join(record.sequence.upper() for record in read_sequences(strain.file))
    if len(genome) < least:
        raise ValueError(
            f"{strain.file} has {len(genome):,} bases, expected {least:,} or more; leave it out, "
            "or lower --length"
        )
    return genome


def long_kmers(sequence: bytes) -> NDArray[np.int64]:
    """The 21-mer at each position as a number, the same on both strands; −1 where one has another
    letter than A, C, G and T."""
    codes = CODES[np.frombuffer(sequence, dtype=np.uint8)]
    count = max(0, len(codes) - LONG + 1)
    one, other = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    known = np.ones(count, dtype=bool)
    for i in range(LONG):
        base = codes[i : i + count].astype(np.int64)
        one = one * 4 + base
        other += (3 - base) << (2 * i)
        known &= base >= 0
    return np.where(known, np.minimum(one, other), -1)


class HeldOut:
    """The test: tiles of the held-out strains.

    Args:
        strains: those held out.
        species: in the order of their numbers.
        length: bases of a tile.

    Attributes:
        tiles: every fourth tile of each genome.
        kmers: their 21-mers and those of their margins, sorted.

    Raises: ValueError if a genome has fewer than four tiles, or a file is none; OSError.
    """

    def __init__(self, strains: Sequence[Strain], species: Sequence[str], length: int) -> None:
        self._species = species
        self.tiles: list[Tile] = []
        found, margin = [], length // _MARGIN
        for strain in strains:
            genome = genome_of(strain, _EVERY * length)
            for start in range((_EVERY - 1) * length, len(genome) - length + 1, _EVERY * length):
                self.tiles.append(Tile(strain, start, genome[start : start + length]))
                found.append(long_kmers(genome[start - margin : start + length + margin]))
        kmers = np.unique(np.concatenate(found))
        self.kmers: NDArray[np.int64] = kmers[kmers >= 0]

    def windows(
        self, length: int, most: int, generator: np.random.Generator
    ) -> tuple[list[bytes], NDArray[np.int64]]:
        """Windows of which none overlaps another, as many of each species, and their species by
        number. Either strand is equally likely."""
        of_species: list[list[bytes]] = [[] for _ in self._species]
        for strain, _, tile in self.tiles:
            cut = [tile[i : i + length] for i in range(0, len(tile) - length + 1, length)]
            of_species[self._species.index(strain.species)] += cut
        count = min(most // len(self._species), *map(len, of_species))
        chosen = [one[i] for one in of_species for i in generator.permutation(len(one))[:count]]
        sides = generator.integers(2, size=len(chosen))
        windows = [
            w if side else reverse_complement(w) for w, side in zip(chosen, sides, strict=True)
        ]
        return windows, np.repeat(np.arange(len(of_species)), count)


class Known:
    """What is learned from: windows of the other strains that are no near copies of the test.

    Args:
        strains: one or more of each species.
        species: in the order of their numbers.
        length: of the longest windows.
        held_out: the test.

    Attributes:
        open: the share of the places of the longest windows that may be learned from.
        copied: the share of the test's 21-mers, by species, that the strains had before that.

    Raises: ValueError if a genome is shorter, a species has no window left, or a file is none;
        OSError.
    """

    def __init__(
        self, strains: Sequence[Strain], species: Sequence[str], length: int, held_out: HeldOut
    ) -> None:
        # A genome, and how many 21-mers before each place are in the test.
        self._genomes: list[list[tuple[bytes, NDArray[np.int32]]]] = [[] for _ in species]
        seen = np.zeros(len(held_out.kmers), dtype=bool)
        places = allowed = 0
        for strain in strains:
            genome = genome_of(strain, length)
            kmers = long_kmers(genome)
            at = np.searchsorted(held_out.kmers, kmers).clip(max=len(held_out.kmers) - 1)
            shared = held_out.kmers[at] == kmers
            seen[at[shared]] = True
            before = np.concatenate([[0], np.cumsum(shared)]).astype(np.int32)
            free = _shared(before, np.arange(len(genome) - length + 1), length) <= SHARED * length
            places, allowed = places + len(free), allowed + int(free.sum())
            if free.any():
                self._genomes[species.index(strain.species)].append((genome, before))
        self.open = allowed / places
        if empty := [one for one, some in zip(species, self._genomes, strict=True) if not some]:
            raise ValueError(
                f"{empty[0]} has no window of {length:,} bases that is no near copy of the test; "
                "lower --length"
            )
        self.copied: dict[str, float] = {}
        for one in species:
            of_tiles = np.concatenate(
                [long_kmers(tile) for strain, _, tile in held_out.tiles if strain.species == one]
            )
            of_tiles = of_tiles[of_tiles >= 0]
            self.copied[one] = float(seen[np.searchsorted(held_out.kmers, of_tiles)].mean())

    def windows(
        self, length: int, labels: NDArray[np.int64], generator: np.random.Generator
    ) -> list[bytes]:
        """A window of each of these species by number. Its strains, places and strands are equally
        likely, but for near copies of the test."""
        found = []
        for label in labels:
            genomes = self._genomes[label]
            while True:
                genome, before = genomes[generator.integers(len(genomes))]
                start = int(generator.integers(len(genome) - length + 1))
                if _shared(before, start, length) <= SHARED * length:
                    break
            window = genome[start : start + length]
            found.append(window if generator.integers(2) else reverse_complement(window))
        return found


def _shared(
    before: NDArray[np.int32], start: NDArray[np.int64] | int, length: int
) -> NDArray[np.int32]:
    """How many of their 21-mers windows share with the test."""
    shared: NDArray[np.int32] = before[start + length - LONG + 1] - before[start]
    return shared
