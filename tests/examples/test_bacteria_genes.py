"""The reading frames of the example on bacteria, and its substitutions in them."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from made_up_dna import STOPS, gene_of, random_dna

from hyena.genomes import reverse_complement


def slow_frames(sequence: bytes, least: int) -> list[tuple[int, int, bool]]:
    """Reading frames, codon by codon."""
    found = []
    for forward in (True, False):
        text = sequence if forward else reverse_complement(sequence)
        for frame in range(3):
            start = None
            for i in range(frame, len(text) - 2, 3):
                codon = text[i : i + 3]
                if codon == b"ATG" and start is None:
                    start = i
                if codon in STOPS:
                    if start is not None and i + 3 - start >= least:
                        ends = start, i + 3
                        if not forward:
                            ends = len(text) - ends[1], len(text) - ends[0]
                        found.append((*ends, forward))
                    start = None
    return sorted(found)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 6, 1000, 1001, 1002])
@pytest.mark.parametrize("least", [6, 9, 60])
def test_reading_frames_are_those_found_codon_by_codon(
    least: int, length: int, example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    sequence = random_dna(length, numbers, b"AATGGCTN")
    found = example.genes.reading_frames(sequence, least)
    assert found == slow_frames(sequence, least)
    assert length < 1000 or least == 60 or found


def protein_of(gene: bytes, table: dict[bytes, str]) -> str:
    return "".join(table[gene[i : i + 3]] for i in range(0, len(gene), 3))


@pytest.mark.parametrize("forward", [True, False])
def test_what_a_substitution_does_is_what_translation_says(
    forward: bool, example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    table, gene = example.genes.PROTEIN, gene_of(20, numbers)
    own = gene if forward else reverse_complement(gene)
    sequence = b"CC" + own + b"C"
    place = example.genes.Gene(2, 2 + len(gene), forward)
    before, seen = protein_of(gene, table), set()
    for at, base in itertools.product(range(2, 2 + len(gene)), (b"A", b"C", b"G", b"T")):
        changed = sequence[:at] + base + sequence[at + 1 :]
        inside = changed[2 : 2 + len(gene)]
        after = protein_of(inside if forward else reverse_complement(inside), table)
        got = example.genes.changes_protein(sequence, place, at, base)
        assert got == (after != before), (at, base)
        seen.add(got)
    assert seen == {True, False}


def test_the_genetic_code(example: SimpleNamespace) -> None:
    table = example.genes.PROTEIN
    assert len(table) == 64
    assert [codon for codon, acid in table.items() if acid == "*"] == [b"TAA", b"TAG", b"TGA"]
    known = {b"ATG": "M", b"TGG": "W", b"TTT": "F", b"GGG": "G", b"AAA": "K", b"CAT": "H"}
    assert {codon: table[codon] for codon in known} == known


def test_genes_are_the_longest_frames_and_places_between_are_of_none(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    first, second = gene_of(150, numbers), reverse_complement(gene_of(120, numbers))
    sequence = b"C" * 47 + b"TAA" + first + b"C" * 40 + second + b"C" * 30
    genes, owner = example.genes.genes_of(sequence)
    places = [example.genes.Gene(50, 50 + len(first), True)]
    start = 50 + len(first) + 40
    places.append(example.genes.Gene(start, start + len(second), False))
    assert genes[:2] == places
    assert (owner[50 : 50 + len(first)] == 0).all()
    assert (owner[start : start + len(second)] == 1).all()
    for frame in example.genes.reading_frames(sequence, 150):
        assert (owner[frame.start : frame.end] != -1).all()
    assert (owner[:50] == -1).all()


def test_where_a_gene_may_begin_earlier_is_unclear(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    gene = gene_of(150, numbers)
    sequence = b"C" * 50 + b"TAG" + b"GTG" + b"CCC" * 9 + gene + b"C" * 40
    for text, start in ((sequence, 53), (reverse_complement(sequence), 40 + len(gene))):
        _, owner = example.genes.genes_of(text)
        unclear = np.flatnonzero(owner == -2)
        assert unclear.tolist() == list(range(start, start + 30))


def test_substitutions_are_what_they_are_said_to_be(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    parts = [random_dna(200, numbers, b"ACCCGT"), b"TAA" * 2, gene_of(200, numbers), b"N" * 5]
    sequence = b"".join(parts * 6)
    genes, owner = example.genes.genes_of(sequence)
    ranges = [(0, 2500), (3000, len(sequence))]
    found = list(example.genes.substitutions(sequence, ranges, 2, numbers))
    changes = [(kind, chr(sequence[at]), base) for at, base, kind in found]
    assert {change: changes.count(change) for change in changes} == {
        (kind, *change): 2
        for kind in example.genes.KINDS
        for change in itertools.permutations("ACGT", 2)
    }
    assert len({each.position for each in found}) == 72
    for at, base, kind in found:
        assert not 2500 <= at < 3000
        if kind == example.genes.BETWEEN:
            assert owner[at] == -1
        else:
            gene = genes[owner[at]]
            changes = example.genes.changes_protein(sequence, gene, at, base.encode())
            assert changes == (kind == example.genes.OTHER)
    few = list(example.genes.substitutions(b"ACGTN" * 4, [(0, 20)], 100, numbers))
    assert len(few) == 16  # as many as there are, none of them in a gene
