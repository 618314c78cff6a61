"""Scores of variants: how much likelier, or less likely, they make the sequence around them."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from hyena.arguments import check_whole, shown
from hyena.data.tokenizer import Tokenizer
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.genomes import Fasta, Variant
from hyena.model import LanguageModel

from .batches import waiting
from .scorer import Reduce, Scorer
from .sequences import OnError, Reader, SoftMasked, Tokens, check_choice, longer

WINDOW = 8192
_BASES = re.compile("[ACGTUNRYSWKMBDHV]+", re.IGNORECASE)
_FIRST = str.maketrans("RYSWKMBDHV", "ACCAGACAAA")
"""For IUPAC's codes in a genome the first of their bases, which VCF has as REF (section 1.6.1)."""


@dataclass(frozen=True)
class VariantScore:
    """What `score_variants` found of one alternative allele."""

    index: int
    """The variant's place among the variants, from 0."""
    chrom: str
    """Name of the record that it is in."""
    position: int
    """Of the first base of ``ref``, counted from 1."""
    id: str
    """The variant's name; empty if it has none."""
    ref: str
    """The reference allele, as in the file of variants."""
    alt: str
    """The alternative allele, as there."""
    score: float | None = None
    """``alternative`` − ``reference``; None if the allele was skipped."""
    reference: float | None = None
    """The score of the sequence with the reference allele, as `hyena.score` gives it; the mean of
    both strands if these are asked for."""
    alternative: float | None = None
    """The same of the alternative."""
    window: int | None = None
    """Bases that ``reference`` is the score of: the reference allele, and those around it that
    ``alternative`` has as well."""
    skipped: str | None = None
    """Why there is no score, or None."""

    def record(self) -> dict[str, Any]:
        """As JSON has it, without what there is not."""
        return {name: value for name, value in vars(self).items() if value is not None}


def score_variants(
    model: LanguageModel,
    tokenizer: Tokenizer,
    variants: Iterable[Variant],
    fasta: Fasta,
    *,
    window: int | None = None,
    reduce: Reduce = "sum",
    both_strands: bool = False,
    begin: bool = True,
    soft_masked: SoftMasked = "fold",
    batch: int = 8,
    on_error: OnError = "stop",
) -> Iterator[VariantScore]:
    """Of each alternative allele the score of the sequence with it less that with the reference.

    The sequence is that of the FASTA around the variant, the same for all alleles of one: as many
    bases to the left as to the right, more on one side where the other ends. It is as long as fits
    with the longest of them. So with ``reduce`` "sum" the score is the logarithm of how much
    likelier the alternative is, flanks included.

    Args:
        model, tokenizer, reduce, both_strands, begin, batch: as in `hyena.score`.
        variants: see `hyena.genomes.read_vcf`.
        fasta: the genome that they are of, see `hyena.genomes.Fasta`.
        window: bases that the model is given at most; None means 8,192, or what it has room for.
        soft_masked: "fold" makes lower-case bases upper case; "keep" keeps them, and gives
            alternatives the case of the base that they begin at.
        on_error: what a variant does that does not fit the genome: another reference allele, a name
            or a position that is not there. "stop" raises, "skip" says why in its place.

    Returns: an iterator of `VariantScore`, one an alternative allele, in order. Symbolic alleles
        such as ``<DEL>``, ``*`` or a breakend have no sequence, and are skipped in any case.
    Raises: as `hyena.score`; TypeError on what is no genome or no variant; ValueError that names
        the variant as above.
    Warns: as `hyena.score`.
    """
    check_choice("reduce", reduce, ("sum", "mean"))
    if not isinstance(fasta, Fasta):
        raise TypeError(f"fasta: expected a Fasta of hyena.genomes, got {shown(fasta)}")
    scorer = Scorer(model, tokenizer, begin=begin, batch=batch)
    limit = scorer.most
    if window is None:
        window = WINDOW if limit is None else min(WINDOW, limit)
    window = check_whole("window", window)
    if limit is not None and window > limit:
        raise ValueError(
            f"window: expected at most {limit}, for which the model has room, got {window}; or "
            f"{longer(model.config)}"
        )
    reader = Reader(
        model,
        tokenizer,
        both_strands=both_strands,
        on_error=on_error,
        soft_masked=soft_masked,
        least=scorer.first + 1,
        most=scorer.most,
    )
    site = _Sites(fasta, window, soft_masked)
    return _scores(scorer, _read(variants, reader, site), reduce)


@dataclass(frozen=True, eq=False)
class _Sequences:
    """A variant with the tokens of its sequences: for the reference and for each alternative that
    has one, of one strand or two."""

    index: int
    variant: Variant
    skipped: list[str | None]
    """Why each alternative is, or None."""
    alleles: list[list[Tokens]]
    window: int
    """Bases of the sequence for the reference; 0 if there is none."""

    @property
    def size(self) -> int:
        """All their tokens."""
        return sum(len(tokens) for strands in self.alleles for tokens in strands)


class _Sites:
    """The sequences around variants.

    Args: the genome, the most bases of a sequence, and what its lower-case bases become.
    """

    def __init__(self, fasta: Fasta, window: int, soft_masked: SoftMasked) -> None:
        self._fasta, self._window, self._folds = fasta, window, soft_masked == "fold"

    def sequences(self, variant: Variant, alternatives: list[str]) -> list[str]:
        """With the reference allele, and with each of the alternatives.

        Raises: ValueError if the variant is not one of the genome.
        """
        chrom, ref = variant.chrom, variant.ref
        length, at = self._fasta.length(chrom), variant.position - 1
        if at < 0 or at + len(ref) > length:
            raise ValueError(
                f"the record {chrom} has {length:,} bases, but its reference allele ends at "
                f"{at + len(ref):,}"
            )
        flanks = self._window - max(map(len, (ref, *alternatives)))
        if flanks < 0:
            raise ValueError(
                f"its longest allele has {self._window - flanks:,} bases, but the window has "
                f"{self._window:,}"
            )
        start = max(0, at - flanks // 2)
        end = min(length, at + len(ref) + flanks - (at - start))
        start = max(0, at - (flanks - (end - at - len(ref))))
        bases = self._bases(chrom, start, end)
        before, after = bases[: at - start], bases[at - start + len(ref) :]
        there = bases[at - start : at - start + len(ref)]
        cased = str.lower if there[0].islower() else str.upper
        if there.upper() != ref.upper():
            if there.upper().translate(_FIRST) != ref.upper():
                raise ValueError(
                    f"its reference allele is {ref:.40}, but the FASTA has {there.upper():.40} "
                    "there"
                )
            there = cased(ref)
        return [before + allele + after for allele in (there, *map(cased, alternatives))]

    def _bases(self, chrom: str, start: int, end: int) -> str:
        bases = self._fasta.fetch(chrom, start, end).decode("ascii", "replace")
        return bases.upper() if self._folds else bases


def _read(
    variants: Iterable[Variant], reader: Reader, sites: _Sites
) -> Generator[_Sequences, None, None]:
    try:
        for index, variant in enumerate(variants):
            if not isinstance(variant, Variant):
                raise TypeError(
                    f"variants: expected Variants of hyena.genomes, got {shown(variant)}"
                )
            yield _sequences(index, variant, reader, sites)
    finally:
        reader.warn()


def _sequences(index: int, variant: Variant, reader: Reader, sites: _Sites) -> _Sequences:
    """Those of a variant. Raises: ValueError that names it, unless such ones are skipped."""
    skipped = [_without_sequence(alt) for alt in variant.alts]
    known = [alt for alt, why in zip(variant.alts, skipped, strict=True) if why is None]
    alleles: list[list[Tokens]] = []
    texts: list[str] = []
    if known:
        place = f"{variant.chrom}:{variant.position} in line {variant.line}"
        try:
            texts = sites.sequences(variant, known)
            alleles = [reader.strands(place, text) for text in texts]
        except ValueError as error:
            why = reader.reason(place, error)
            skipped = [of or why for of in skipped]
    return _Sequences(index, variant, skipped, alleles, len(texts[0]) if texts else 0)


def _without_sequence(alt: str) -> str | None:
    """Why an alternative allele has none, or None."""
    return None if _BASES.fullmatch(alt) else "the allele is symbolic: it has no sequence"


def _scores(
    scorer: Scorer, variants: Generator[_Sequences, None, None], reduce: Reduce
) -> Iterator[VariantScore]:
    with evaluation_mode(scorer.model), closing(variants):
        for some in waiting(variants, lambda one: one.size, scorer.batch):
            each = [tokens for one in some for of in one.alleles for tokens in of]
            found = iter(scorer.log_probabilities(each))
            for one in some:
                strands = ([next(found) for _ in of] for of in one.alleles)
                means = [sum(scorer.reduced(x, reduce) for x in of) / len(of) for of in strands]
                yield from _of_alleles(one, means)


def _of_alleles(one: _Sequences, scores: list[float]) -> Iterator[VariantScore]:
    """The rows of a variant, from the scores of its reference and of those that have one."""
    chrom, position, name, ref, alts, _ = one.variant
    alternatives = iter(scores[1:])
    for alt, why in zip(
        alts or (".",), one.skipped or ["it has no alternative allele"], strict=True
    ):
        row = VariantScore(one.index, chrom, position, name, ref, alt, skipped=why)
        if why is None:
            new = next(alternatives)
            row = VariantScore(
                *(one.index, chrom, position, name, ref, alt),
                score=new - scores[0],
                reference=scores[0],
                alternative=new,
                window=one.window,
            )
        yield row
