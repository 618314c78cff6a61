"""A variant's score is the score of the sequence with it less that without, spelt out here."""

import random
from pathlib import Path
from typing import Any

import pytest
from scoring_models import BYTES, build, of_text

import hyena
from hyena.genomes import Fasta, Variant, reverse_complement
from hyena.scoring import score_variants

GENOME = "".join(random.Random(0).choices("ACGT", k=300))


@pytest.fixture
def fasta(tmp_path: Path) -> Fasta:
    """A record of 300 bases, the 101st to the 150th in lower case, and one of 12."""
    file = tmp_path / "g.fa"
    soft = GENOME[:100] + GENOME[100:150].lower() + GENOME[150:]
    lines = [soft[i : i + 60] for i in range(0, 300, 60)]
    file.write_text(">chr1 first\n" + "\n".join(lines) + "\n>chr2\nACGTTGCATTAC\n")
    return Fasta(file)


def variant(position: int, ref: int | str, *alts: str, chrom: str = "chr1") -> Variant:
    """At a position of the genome; the reference allele itself, or its length."""
    bases = GENOME[position - 1 : position - 1 + ref] if isinstance(ref, int) else ref
    return Variant(chrom, position, f"rs{position}", bases, alts, 7)


def other(base: str) -> str:
    return "ACGT"["ACGT".index(base) - 1]


def window_of(position: int, ref: int, longest: int, window: int) -> tuple[int, int]:
    """Where the sequence around a variant begins and ends, by trying all that are long enough: the
    one in whose middle the variant is, or as near to it as the record allows."""
    length = window - longest + ref
    at = position - 1
    wanted = at - (window - longest) // 2
    starts = range(0, max(1, 300 - length + 1))
    start = min(starts, key=lambda s: (abs(s - wanted), s))
    return start, min(300, start + length)


@pytest.mark.parametrize("window", [20, 41, 64, None])
@pytest.mark.parametrize("position", [1, 9, 150, 291, 300])
def test_a_substitution(position: int, window: int | None, fasta: Fasta) -> None:
    model = build()
    alt = other(GENOME[position - 1])
    (found,) = score_variants(model, BYTES, [variant(position, 1, alt)], fasta, window=window)
    start, end = window_of(position, 1, 1, window or 64)
    reference = GENOME[start:end]
    at = position - 1 - start
    alternative = reference[:at] + alt + reference[at + 1 :]
    expected = [sum(of_text(model, text)) for text in (reference, alternative)]
    assert len(reference) == found.window == (window or 64)
    assert found.reference == pytest.approx(expected[0], rel=1e-10)
    assert found.alternative == pytest.approx(expected[1], rel=1e-10)
    assert found.score == pytest.approx(expected[1] - expected[0], rel=1e-8)
    names = ("chrom", "position", "id", "ref", "alt")
    assert [getattr(found, name) for name in names] == [
        *("chr1", position, f"rs{position}"),
        *(GENOME[position - 1], alt),
    ]


@pytest.mark.parametrize(
    ("ref", "alts"),
    [(1, ("AAGG",)), (5, ("A",)), (3, ("T", "TTTT", "CCC")), (1, ("A" * 30, "C"))],
)
@pytest.mark.parametrize("position", [3, 200, 295])
def test_insertions_deletions_and_several_alleles(
    position: int, ref: int, alts: tuple[str, ...], fasta: Fasta
) -> None:
    model = build()
    found = list(score_variants(model, BYTES, [variant(position, ref, *alts)], fasta, window=40))
    assert [one.alt for one in found] == list(alts)
    start, end = window_of(position, ref, max(ref, *map(len, alts)), 40)
    before, after = GENOME[start : position - 1], GENOME[position - 1 + ref : end]
    reference = sum(of_text(model, GENOME[start:end]))
    for one, alt in zip(found, alts, strict=True):
        assert len(before + alt + after) <= 40
        alternative = sum(of_text(model, before + alt + after))
        assert one.reference == pytest.approx(reference, rel=1e-10)
        assert one.score == pytest.approx(alternative - reference, rel=1e-8)
        assert one.window == end - start


def test_many_variants_are_in_order_whatever_the_batch(fasta: Fasta) -> None:
    model = build()
    variants = [variant(p, 1, other(GENOME[p - 1])) for p in range(1, 301, 13)]
    variants.insert(3, variant(50, 2, "<DEL>"))
    alone = [one for v in variants for one in score_variants(model, BYTES, [v], fasta, window=30)]
    found = list(score_variants(model, BYTES, variants, fasta, window=30, batch=5))
    assert [one.index for one in found] == list(range(len(variants)))
    assert [one.position for one in found] == [v.position for v in variants]
    for one, single in zip(found, alone, strict=True):
        assert one.score == (single.score and pytest.approx(single.score, rel=1e-8))


def test_a_record_shorter_than_the_window_is_taken_whole(fasta: Fasta) -> None:
    model, options = build(), {"begin": False, "reduce": "mean"}
    one = variant(4, "T", "G", chrom="chr2")
    (found,) = score_variants(model, BYTES, [one], fasta, window=50, **options)
    texts = ("ACGTTGCATTAC", "ACGGTGCATTAC")
    expected = [sum(of_text(model, text, begin=False)) / 11 for text in texts]
    assert found.score == pytest.approx(expected[1] - expected[0], rel=1e-8)


def test_both_strands_are_the_mean_of_each(fasta: Fasta) -> None:
    model, position = build(), 200
    alt = other(GENOME[position - 1])
    (found,) = score_variants(
        model, BYTES, [variant(position, 1, alt)], fasta, window=31, both_strands=True
    )
    reference = GENOME[184:215]
    alternative = reference[:15] + alt + reference[16:]
    scores = []
    for text in (reference, alternative):
        turned = reverse_complement(text.encode()).decode()
        scores.append((sum(of_text(model, text)) + sum(of_text(model, turned))) / 2)
    assert found.score == pytest.approx(scores[1] - scores[0], rel=1e-8)


def test_lower_case_is_folded_or_kept_and_the_alternative_follows(fasta: Fasta) -> None:
    model, position = build(), 101  # in lower case, with upper case before it
    alt = other(GENOME[position - 1])
    one = variant(position, 1, alt)
    (folded,) = score_variants(model, BYTES, [one], fasta, window=21)
    (kept,) = score_variants(model, BYTES, [one], fasta, window=21, soft_masked="keep")
    upper = GENOME[90:111]
    assert folded.reference == pytest.approx(sum(of_text(model, upper)), rel=1e-10)
    soft = upper[:10] + upper[10:].lower()
    assert kept.reference == pytest.approx(sum(of_text(model, soft)), rel=1e-10)
    other_one = soft[:10] + alt.lower() + soft[11:]
    assert kept.alternative == pytest.approx(sum(of_text(model, other_one)), rel=1e-10)


@pytest.mark.parametrize(
    "alt", ["<DEL>", "*", "G]17:198982]", "]13:123456]T", "<INS:ME:ALU>", ".A"]
)
def test_alleles_without_a_sequence_are_skipped_whatever_is_asked(alt: str, fasta: Fasta) -> None:
    good = other(GENOME[49])
    found = list(score_variants(build(), BYTES, [variant(50, 1, alt, good)], fasta, window=20))
    assert [one.alt for one in found] == [alt, good]
    assert found[0].skipped == "the allele is symbolic: it has no sequence"
    assert (found[0].score, found[1].skipped) == (None, None)
    assert found[0].record() == {
        **{"index": 0, "chrom": "chr1", "position": 50, "id": "rs50"},
        **{"ref": GENOME[49], "alt": alt, "skipped": found[0].skipped},
    }


def test_a_variant_without_alternatives_has_a_row(fasta: Fasta) -> None:
    (found,) = score_variants(build(), BYTES, [variant(50, 1)], fasta)
    assert (found.alt, found.skipped) == (".", "it has no alternative allele")


BAD = {
    "reference": (
        variant(50, 1, "A")._replace(ref="N"),
        "its reference allele is N, but the FASTA",
    ),
    "record": (variant(50, 1, "A", chrom="chrX"), "has no record 'chrX'; it has 'chr1', 'chr2'"),
    "position": (variant(301, "A", "C"), "the record chr1 has 300 bases, but its reference allele"),
    "end": (variant(300, "AC", "C"), "the record chr1 has 300 bases, but its reference allele end"),
    "alleles": (variant(50, 1, "A" * 21), "its longest allele has 21 bases, but the window has 20"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_variant_of_another_genome_is_fatal_or_says_in_its_place_why(
    name: str, fasta: Fasta
) -> None:
    bad, message = BAD[name]
    good = variant(60, 1, other(GENOME[59]))
    options: Any = {"window": 20}
    with pytest.raises(ValueError, match=rf"^{bad.chrom}:{bad.position} in line 7: .*{message}"):
        list(score_variants(build(), BYTES, [good, bad], fasta, **options))
    found = list(
        score_variants(build(), BYTES, [good, bad, good], fasta, on_error="skip", **options)
    )
    assert [one.skipped is None for one in found] == [True, False, True]
    assert message in str(found[1].skipped)
    assert found[2].score == pytest.approx(found[0].score, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 65}, "window: expected at most 64, for which the model has room, got 65; or"),
        ({"window": 0}, "window: expected at least 1, got 0"),
        ({"soft_masked": "drop"}, "soft_masked: expected one of fold, keep, got 'drop'"),
        ({"reduce": "max"}, "reduce: expected one of sum, mean, got 'max'"),
        ({"on_error": "x"}, "on_error: expected one of stop, skip, got 'x'"),
    ],
)
def test_arguments_out_of_range_are_refused(
    options: dict[str, Any], message: str, fasta: Fasta
) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        score_variants(build(), BYTES, [], fasta, **options)


def test_the_root_offers_it() -> None:
    assert hyena.score_variants is score_variants


def test_a_code_of_the_genome_is_the_first_of_its_bases(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">1\nACGTkBACGT\n")
    fasta, model = Fasta(tmp_path / "g.fa"), build()
    good = Variant("1", 5, "", "GC", ("T",), 3)
    for case in ("fold", "keep"):
        options: Any = {"window": 10, "soft_masked": case}
        (found,) = score_variants(model, BYTES, [good], fasta, **options)
        ref, alt = ("GC", "T") if case == "fold" else ("gc", "t")
        expected = [sum(of_text(model, f"ACGT{allele}ACGT")) for allele in (ref, alt)]
        assert found.reference == pytest.approx(expected[0], rel=1e-10)
        assert found.alternative == pytest.approx(expected[1], rel=1e-10)
    with pytest.raises(ValueError, match="its reference allele is TC, but the FASTA has KB there"):
        list(score_variants(model, BYTES, [good._replace(ref="TC")], fasta, window=10))


def test_what_is_no_genome_or_no_variant_is_said(fasta: Fasta) -> None:
    wrong: Any = "g.fa"
    with pytest.raises(TypeError, match=r"fasta: expected a Fasta of hyena\.genomes, got 'g\.fa'"):
        score_variants(build(), BYTES, [], wrong)
    with pytest.raises(TypeError, match=r"variants: expected Variants of hyena\.genomes, got 'v'"):
        list(score_variants(build(), BYTES, wrong.replace("g.fa", "v"), fasta))
