"""What the example on bacteria learns from and asks, and what k-mers know of it."""

import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_dna import random_dna, write

from hyena.genomes import reverse_complement


def own_kmers(sequence: bytes) -> list[bytes]:
    """The 21-mers of a sequence, of two strands the one that is first in the alphabet."""
    found = [sequence[i : i + 21] for i in range(len(sequence) - 20)]
    return [min(one, reverse_complement(one)) for one in found if not one.strip(b"ACGT")]


def test_long_kmers_are_told_apart_but_for_their_strand(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    sequence = random_dna(300, numbers, b"A" * 60 + b"C" * 60 + b"G" * 60 + b"T" * 60 + b"N")
    both = sequence + b"N" + reverse_complement(sequence) + b"N" + b"ACCCA" * 20
    found = example.windows.long_kmers(both)
    assert len(found) == len(both) - 20
    own = own_kmers(both)
    assert len(own) == (found >= 0).sum()
    assert len(set(own)) == len(set(found[found >= 0].tolist()))
    assert len(set(zip(own, found[found >= 0].tolist(), strict=True))) == len(set(own))
    assert example.windows.long_kmers(b"ACGT" * 5).shape == (0,)


def test_the_test_is_every_fourth_tile_of_held_out_strains(
    example: SimpleNamespace, tmp_path: Path, numbers: np.random.Generator
) -> None:
    genomes = {"a__1": random_dna(1000, numbers), "b__1": random_dna(700, numbers)}
    write(tmp_path, **genomes)
    strains = example.genomes.find_strains(tmp_path)
    test = example.windows.HeldOut(strains, ["b", "a"], 64)
    places = [(tile.strain.species, tile.start) for tile in test.tiles]
    assert places == [("a", 192), ("a", 448), ("a", 704), ("b", 192), ("b", 448)]
    windows, labels = test.windows(32, 100, numbers)
    assert labels.tolist() == [0] * 4 + [1] * 4  # as many as there are of b
    seen = set()
    for window, label in zip(windows, labels, strict=True):
        genome = genomes["ba"[label] + "__1"]
        at = max(genome.find(window), genome.find(reverse_complement(window)))
        assert at % 32 == 0
        assert at // 64 % 4 == 3
        seen.add((label, at))
    assert len(seen) == 8
    assert len(test.windows(32, 6, numbers)[0]) == 6
    with pytest.raises(ValueError, match="has 700 bases, expected 704 or more; leave it out"):
        example.windows.HeldOut(strains, ["b", "a"], 176)


def test_windows_to_learn_from_are_no_copies_of_the_test(
    example: SimpleNamespace, tmp_path: Path, numbers: np.random.Generator
) -> None:
    bases = {species: random_dna(4000, numbers) for species in "ab"}
    strains = {f"{species}__9": sequence for species, sequence in bases.items()}
    for species, sequence in bases.items():
        inserted = random_dna(300, numbers) + sequence[1900:] + random_dna(1, numbers)
        strains[f"{species}__1"] = reverse_complement(inserted + sequence[:1900])
        strains[f"{species}__2"] = random_dna(800, numbers)
    write(tmp_path, **strains)
    known, held_out = example.genomes.split(example.genomes.find_strains(tmp_path))
    assert [strain.name for strain in held_out] == ["9", "9"]
    test = example.windows.HeldOut(held_out, ["a", "b"], 256)
    found = example.windows.Known(known, ["a", "b"], 256, test)
    texts = [strains[f"{species}__{i}"] for species in "ab" for i in (1, 2)]
    there = {kmer for text in texts for kmer in own_kmers(text)}
    for one, share in found.copied.items():
        tiles = [tile.sequence for tile in test.tiles if tile.strain.species == one]
        copied = [kmer in there for tile in tiles for kmer in own_kmers(tile)]
        assert 0.95 < share == np.mean(copied) < 1  # the cut of the genome is in a tile
    sides = [(tile.start - 4, tile.start + 260) for tile in test.tiles]
    wide = [bases[t.strain.species][a:b] for t, (a, b) in zip(test.tiles, sides, strict=True)]
    of_test = {kmer for sequence in wide for kmer in own_kmers(sequence)}
    free = []
    for text in texts:
        shared = [kmer in of_test for kmer in own_kmers(text)]
        free += [sum(shared[i : i + 236]) <= 2 for i in range(len(text) - 255)]
    assert found.open == np.mean(free)
    assert 0.3 < found.open < 0.8
    for length in (64, 256):
        labels = np.tile([0, 1], 30)
        for window, label in zip(found.windows(length, labels, numbers), labels, strict=True):
            own = texts[2 * label : 2 * label + 2]
            assert any(window in t or reverse_complement(window) in t for t in own)
            assert sum(kmer in of_test for kmer in own_kmers(window)) <= length / 100
    write(tmp_path, a__1=bases["a"][700:1100], a__2=bases["a"][700:1100])
    with pytest.raises(ValueError, match="a has no window of 256 bases that is no near copy"):
        example.windows.Known(known, ["a", "b"], 256, test)
    with pytest.raises(ValueError, match="has 400 bases, expected 401 or more"):
        example.windows.Known(known, ["a", "b"], 401, test)


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("length", [0, 3, 4, 5, 300])
def test_frequencies_of_kmers_are_those_counted_one_by_one(
    length: int, k: int, example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    window = random_dna(length, numbers, b"AACGTTTN")
    kmers = [bytes(kmer) for kmer in itertools.product(b"ACGT", repeat=k)]
    expected = np.zeros(4**k)
    for strand in (window, reverse_complement(window)):
        for i in range(length - k + 1):
            if strand[i : i + k] in kmers:
                expected[kmers.index(strand[i : i + k])] += 1
    expected /= max(1, expected.sum())
    np.testing.assert_allclose(example.kmers.kmer_frequencies(window, k), expected, rtol=1e-12)


def test_kmers_tell_compositions_apart(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    letters = [b"AAAAAC", b"AACCGT", b"CCCGGA"]
    labels = numbers.integers(3, size=90)
    windows = [random_dna(400, numbers, letters[label]) for label in labels]
    guess = example.kmers.kmer_regression(windows[:60], labels[:60], 3, k=4)
    assert np.mean(guess(windows[60:]) == labels[60:]) > 0.9


def test_the_next_base_is_as_likely_as_counts_on_both_strands_say(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    windows = [random_dna(60, numbers, b"AACCGTN") for _ in range(3)]
    counts = example.kmers.NextBase(windows, 3)
    strands = [strand for window in windows for strand in (window, reverse_complement(window))]

    def count(kmer: bytes) -> int:
        return 1 + sum(s[i : i + 3] == kmer for s in strands for i in range(58))

    def likely(sequence: bytes) -> list[float]:
        of = [math.nan] * min(2, len(sequence))
        for i in range(2, len(sequence)):
            kmer = sequence[i - 2 : i + 1]
            some = sum(count(kmer[:2] + bytes([base])) for base in b"ACGT")
            of.append(math.nan if b"N" in kmer else math.log(count(kmer) / some))
        return of

    for length in (0, 1, 2, 3, 40):
        sequence = random_dna(length, numbers, b"ACGTACGTACGTN")
        np.testing.assert_allclose(counts.log_likelihoods(sequence), likely(sequence), rtol=1e-12)
    for at in (0, 1, 2, 20, 37, 38, 39):
        changed = sequence[:at] + b"G" + sequence[at + 1 :]
        expected = np.mean(
            [
                np.nansum(likely(s(changed))) - np.nansum(likely(s(sequence)))
                for s in (bytes, reverse_complement)
            ]
        )
        if sequence[at : at + 1] != b"N":
            assert counts.score(sequence, at, b"G") == pytest.approx(expected, abs=1e-9)
