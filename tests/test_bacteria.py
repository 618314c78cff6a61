"""The example that tells species of bacteria apart: its parts, and all of it on made-up genomes."""

import importlib
import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import hyena
from hyena.data import load_tokenizer
from hyena.genomes import reverse_complement

EXAMPLES = Path(__file__).parent.parent / "examples"
MODULES = ("bacteria", "bacteria_genes", "bacteria_genomes", "bacteria_kmers")
STOPS = (b"TAA", b"TAG", b"TGA")


@pytest.fixture(scope="module")
def example() -> Iterator[SimpleNamespace]:
    """The modules of the example, imported as when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        found = {name: importlib.import_module(name) for name in MODULES}
        yield SimpleNamespace(
            main=found["bacteria"],
            genes=found["bacteria_genes"],
            genomes=found["bacteria_genomes"],
            kmers=found["bacteria_kmers"],
        )
    for name in MODULES:
        del sys.modules[name]


@pytest.fixture
def numbers() -> np.random.Generator:
    return np.random.default_rng(0)


def random_dna(length: int, numbers: np.random.Generator, letters: bytes = b"ACGT") -> bytes:
    return numbers.choice(np.frombuffer(letters, dtype=np.uint8), size=length).tobytes()


def write(folder: Path, **strains: bytes) -> None:
    """FASTA files by species__strain."""
    for name, sequence in strains.items():
        species, _, strain = name.partition("__")
        (folder / species).mkdir(parents=True, exist_ok=True)
        (folder / species / f"{strain}.fa").write_bytes(b">1\n" + sequence + b"\n")


def test_it_runs_and_says_what_it_shows(
    example: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main.main(["--quick", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert "| alpha | alpha1, alpha2, alpha3 | alpha4 |" in out
    assert re.search(r"\| bases \| windows \| 4-mers \| hyena \| attention \|", out)
    assert re.search(r"\| 1,024 \| 20 \| [\d.]+% \| [\d.]+% \| [\d.]+% \|", out)
    assert "What this shows:" in out
    assert "What it does not:" in out
    assert (tmp_path / "bacteria.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "bacteria.json").read_text())
    assert result["steps"] == {"hyena": 20, "attention": 20}
    assert result["tested"] == {"256": 80, "1024": 20}
    assert result["accuracy"]["4-mers"]["1024"] >= 0.9
    assert not set(result["learned_from"]) & set(result["held_out"])
    assert {kind: len(scores) for kind, scores in result["scores"].items()} == {
        "between genes": 10,
        "same protein": 10,
        "other protein": 10,
    }
    model, tokenizer = hyena.load(tmp_path / "model"), load_tokenizer(tmp_path / "model")
    (found,) = hyena.score(model, tokenizer, "ACGT" * 8, begin=False)
    assert found.score is not None


@pytest.mark.parametrize("mixer", ["hyena", "attention"])
def test_training_lowers_the_loss(mixer: str, example: SimpleNamespace, tmp_path: Path) -> None:
    example.genomes.make_up(tmp_path)
    strains = example.genomes.find_strains(tmp_path)
    species = sorted({strain.species for strain in strains})
    settings = replace(example.main.QUICK, length=256, steps=120)
    genomes = example.genomes.Genomes(strains, species, settings.length)
    windows, labels = genomes.windows(256, 8, np.random.default_rng(5))
    model = example.main.new_model(mixer, len(species), settings)

    @torch.no_grad()
    def loss() -> float:
        ids = example.main.ids_of(windows)
        return float(example.main.loss_of(model.eval(), ids, torch.from_numpy(labels), [256]))

    before = loss()
    assert before == pytest.approx(math.log(15) + math.log(3), abs=0.3)  # guesses
    assert example.main.train(model, genomes, settings) == 120
    assert loss() < before - 0.5


@pytest.mark.parametrize("mixer", ["hyena", "attention"])
@torch.no_grad()
def test_one_pass_has_the_loss_of_all_beginnings(
    mixer: str, example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    settings = replace(example.main.QUICK, length=64)
    model = example.main.new_model(mixer, 4, settings).double().eval()
    windows = [random_dna(64, numbers) for _ in range(3)]
    ids, labels = example.main.ids_of(windows), torch.tensor([2, 0, 3])
    expected = F.cross_entropy(model(ids)[:, :-1].transpose(1, 2), ids[:, 1:])
    of_lengths = [F.cross_entropy(model(ids[:, :n])[..., 12:].mean(1), labels) for n in (1, 7, 64)]
    expected = expected + sum(of_lengths) / 3
    got = example.main.loss_of(model, ids, labels, (1, 7, 64))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=0)
    guesses = example.main.species_by(model)(windows)
    assert guesses.tolist() == model(ids)[..., 12:].mean(1).argmax(1).tolist()


def test_the_rate_warms_up_and_ends_at_zero(example: SimpleNamespace) -> None:
    rates = [example.main.learning_rate(done) for done in (0.0, 0.02, 0.05, 0.5, 1.0)]
    assert rates == pytest.approx([0.1, 0.4995, 0.9938, 0.5, 0.0], abs=1e-3)


def test_lengths_and_windows_of_the_test(example: SimpleNamespace) -> None:
    whole = example.main.Settings()
    assert whole.lengths == [256, 1024, 4096, 32_768]
    assert [whole.windows(n) for n in whole.lengths] == [500, 500, 320, 40]
    assert replace(whole, length=256).lengths == [256]


def test_the_share_of_pairs(example: SimpleNamespace) -> None:
    assert example.main.share_below([1.0, 2.0], [2.0, 3.0]) == pytest.approx(3.5 / 4)
    assert math.isnan(example.main.share_below([], [1.0]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--genomes", "{folder}"], r"bacteria: .* has no FASTA files"),
        (["--genomes", "{folder}", "--table", "{folder}/none.tsv"], r"bacteria: .*none\.tsv"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, example: SimpleNamespace, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=message) as ended:
        example.main.main([word.format(folder=tmp_path) for word in words])
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("option", ["--minutes=0", "--length=255"])
def test_sizes_that_cannot_be(
    option: str, example: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        example.main.main([option])
    assert "expected --minutes above 0, and a --length of 256 or more" in capsys.readouterr().err


def test_strains_by_folder(example: SimpleNamespace, tmp_path: Path) -> None:
    write(tmp_path / "deep", b__two=b"AC", b__one=b"AC", a__one=b"AC")
    (tmp_path / "deep" / "a" / "readme.txt").write_text("no genome")
    found = example.genomes.find_strains(tmp_path)
    assert [(strain.species, strain.name) for strain in found] == [
        ("a", "one"),
        ("b", "one"),
        ("b", "two"),
    ]


def test_strains_by_table(example: SimpleNamespace, tmp_path: Path) -> None:
    write(tmp_path, x__one=b"AC", x__two=b"AC")
    table = tmp_path / "species.tsv"
    table.write_text("x/two.fa\tE. coli\n\nx/one.fa\tV. cholerae\n")
    found = example.genomes.find_strains(tmp_path, table)
    assert [(strain.species, strain.name) for strain in found] == [
        ("E. coli", "two"),
        ("V. cholerae", "one"),
    ]
    for line in ("x/two.fa E. coli", "x/none.fa\tE. coli", "x/one.fa\t "):
        table.write_text(f"x/two.fa\tE. coli\n{line}\n")
        with pytest.raises(ValueError, match=r"species\.tsv line 2: expected a file in"):
            example.genomes.find_strains(tmp_path, table)


def test_a_quarter_of_each_species_is_held_out(example: SimpleNamespace) -> None:
    counts = {"a": 9, "b": 2, "c": 1, "d": 4}
    strains = [
        example.genomes.Strain(species, f"{i}", Path(f"{species}{i}"))
        for species, count in counts.items()
        for i in range(count)
    ]
    known, held_out = example.genomes.split(strains)
    assert [s.species + s.name for s in held_out] == ["a7", "a8", "b1", "d3"]
    assert sorted([*known, *held_out]) == [s for s in sorted(strains) if s.species != "c"]
    with pytest.raises(ValueError, match="expected two species or more of two strains or more"):
        example.genomes.split(strains[:9] + strains[11:12])


def test_windows_are_of_their_species_on_both_strands(
    example: SimpleNamespace, tmp_path: Path, numbers: np.random.Generator
) -> None:
    genomes = {f"{s}__{i}": random_dna(300, numbers) for s in "ab" for i in range(2)}
    write(tmp_path, **genomes)
    found = example.genomes.Genomes(example.genomes.find_strains(tmp_path), ["b", "a"], 40)
    windows, labels = found.windows(40, 200, numbers)
    seen = set()
    for window, label in zip(windows, labels, strict=True):
        (name,) = [n for n, g in genomes.items() if window in g or reverse_complement(window) in g]
        assert name[0] == "ba"[label]
        seen.add((name, window in genomes[name]))
    assert len(seen) == 8
    with pytest.raises(ValueError, match="has 300 bases, fewer than a window of 301"):
        example.genomes.Genomes(example.genomes.find_strains(tmp_path), ["a", "b"], 301)


def test_a_package_that_cannot_be_fetched(
    example: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get is not here; try apt-get update"):
        example.genomes.fetched(tmp_path / "package")
    package = f"{example.genomes.PACKAGE}_{example.genomes.VERSION}_all.deb"
    (tmp_path / "package" / package).write_bytes(b"another one")
    with pytest.raises(ValueError, match="has the SHA-256"):
        example.genomes.fetched(tmp_path / "package")
    (tmp_path / "package" / "genomes").mkdir()
    assert example.genomes.fetched(tmp_path / "package") == tmp_path / "package" / "genomes"


@pytest.mark.parametrize("length", [0, 3, 4, 5, 300])
def test_frequencies_of_kmers_are_those_counted_one_by_one(
    length: int, example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    window = random_dna(length, numbers, b"AACGTTTN")
    kmers = [bytes(kmer) for kmer in itertools.product(b"ACGT", repeat=4)]
    expected = np.zeros(256)
    for strand in (window, reverse_complement(window)):
        for i in range(length - 3):
            if strand[i : i + 4] in kmers:
                expected[kmers.index(strand[i : i + 4])] += 1
    expected /= max(1, expected.sum())
    np.testing.assert_allclose(example.kmers.kmer_frequencies(window), expected, rtol=1e-12)


def test_kmers_tell_compositions_apart(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    letters = [b"AAAAAC", b"AACCGT", b"CCCGGA"]
    labels = numbers.integers(3, size=90)
    windows = [random_dna(400, numbers, letters[label]) for label in labels]
    guess = example.kmers.kmer_regression(windows[:60], labels[:60], 3)
    assert np.mean(guess(windows[60:]) == labels[60:]) > 0.9


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


def gene_of(codons: int, numbers: np.random.Generator) -> bytes:
    """A gene of random codons that do not end it."""
    sense = [bytes(c) for c in itertools.product(b"ACGT", repeat=3) if bytes(c) not in STOPS]
    return b"ATG" + b"".join(sense[i] for i in numbers.integers(61, size=codons)) + b"TAA"


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
    sequence = b"C" * 50 + first + b"C" * 40 + second + b"C" * 30
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


def test_substitutions_are_what_they_are_said_to_be(
    example: SimpleNamespace, numbers: np.random.Generator
) -> None:
    parts = [random_dna(200, numbers, b"CCCG"), gene_of(200, numbers), b"N" * 5]
    sequence = b"".join(parts * 3)
    genes, owner = example.genes.genes_of(sequence)
    found = list(example.genes.substitutions(sequence, 20, numbers))
    kinds = [each.kind for each in found]
    assert {kind: kinds.count(kind) for kind in example.genes.KINDS} == dict.fromkeys(
        example.genes.KINDS, 20
    )
    assert len({each.position for each in found}) == 60
    for at, base, kind in found:
        assert base in (b"A", b"C", b"G", b"T")
        assert base != sequence[at : at + 1] != b"N"
        if kind == example.genes.BETWEEN:
            assert owner[at] == -1
        else:
            changes = example.genes.changes_protein(sequence, genes[owner[at]], at, base)
            assert changes == (kind == example.genes.OTHER)
    few = list(example.genes.substitutions(b"ACGTN" * 4, 100, numbers))
    assert len(few) == 16  # as many as there are, none of them in a gene
