"""`hyena score`: log-likelihoods of sequences and of variants."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Literal

from hyena.cli.bar import Report
from hyena.cli.kept import Rows, Skips, deliver, naming, sequences_of, told
from hyena.cli.saved_model import open_model, warnings_as_notes
from hyena.cli.sequence_options import SequenceOptions, work_of
from hyena.data import Tokenizer
from hyena.data.nucleotide_tokenizers import of_nucleotides
from hyena.genomes import Fasta, Variant, read_vcf
from hyena.model import LanguageModel
from hyena.scoring import score, score_variants
from hyena.scoring.outputs import ROWS, Column, check_output, write_rows

POSITIONAL = ("model", "input")
_OF_SEQUENCES = ("positions", "stride", "field", "regions")
_SAME_WORK = (
    *("model", "input", "variants", "fasta"),
    *("reduce", "positions", "begin", "window", "stride"),
)

_SEQUENCE_COLUMNS: dict[str, Column] = {
    "index": "int64",
    "name": "string",
    "tokens": "int64",
    "not_acgt": "int64",
    "score": "float64",
    "forward": "float64",
    "reverse": "float64",
    "positions": "list",
    "reverse_positions": "list",
    "skipped": "string",
}
_VARIANT_COLUMNS: dict[str, Column] = {
    "index": "int64",
    "chrom": "string",
    "position": "int64",
    "id": "string",
    "ref": "string",
    "alt": "string",
    "score": "float64",
    "reference": "float64",
    "alternative": "float64",
    "window": "int64",
    "skipped": "string",
}


@dataclass
class Config(SequenceOptions):
    """What to score, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    input: Path | None = None
    """A file of sequences: text with one in each line, JSON Lines, CSV, TSV, FASTA or FASTQ, packed
    with gzip or not."""
    out: Path | None = None
    """File for the scores, .jsonl or .parquet. An interrupted command goes on where it was; none
    prints JSON Lines, an object for each sequence or allele."""
    reduce: Literal["sum", "mean"] = "sum"
    """Sum or mean of the logarithms of the tokens' probabilities."""
    positions: bool = False
    """Give the logarithm of each token's probability as well."""
    begin: bool = True
    """Put the end of text before each sequence, as before each document of the training data;
    without it the first token has no probability."""
    variants: Path | None = None
    """A VCF file: score its alternative alleles, each less the reference, instead of sequences."""
    fasta: Path | None = None
    """The genome of the variants, packed with gzip or not."""
    window: int | None = None
    """Tokens that the model is given at most: longer sequences are scored in windows, where none
    gives it each whole. Of variants the bases around each; none means 8,192, or what the model has
    room for."""
    stride: int | None = None
    """Tokens from one window to the next; none takes half the window."""


def run(config: Config) -> None:
    """Prints the scores, or writes them to a file, whole or not at all."""
    _refuse_contradictions(config)
    if config.out is not None:
        check_output(config.out, ROWS)
    model, tokenizer = open_model(config.model, config)
    skips = Skips()
    results = partial(
        _of_sequences if config.variants is None else _of_variants, config, model, tokenizer, skips
    )
    with warnings_as_notes():
        deliver(
            config.out,
            work_of("score", config, *_SAME_WORK),
            "sequence" if config.variants is None else "variant",
            "scores",
            results,
            lambda out, kept: write_rows(out, kept, _columns(config, tokenizer)),
        )
    skips.close()


def _refuse_contradictions(config: Config) -> None:
    if (config.input is None) == (config.variants is None):
        raise ValueError(
            "expected a file of sequences after the model, or --variants with --fasta, got "
            + ("none" if config.input is None else "both")
        )
    if (config.variants is None) != (config.fasta is None):
        lacking = "variants" if config.variants is None else "fasta"
        raise ValueError(f"variants and fasta belong together; give --{lacking} too")
    for name in _OF_SEQUENCES:
        if config.variants is not None and getattr(config, name) != getattr(Config, name):
            raise ValueError(f"{name} is of sequences, but variants were given; leave it out")


def _columns(config: Config, tokenizer: Tokenizer) -> dict[str, Column]:
    """Of a Parquet file."""
    if config.variants is not None:
        return _VARIANT_COLUMNS
    asked = {
        "not_acgt": of_nucleotides(tokenizer),
        "forward": config.both_strands,
        "reverse": config.both_strands,
        "positions": config.positions,
        "reverse_positions": config.positions and config.both_strands,
    }
    return {name: kind for name, kind in _SEQUENCE_COLUMNS.items() if asked.get(name, True)}


def _of_sequences(
    config: Config,
    model: LanguageModel,
    tokenizer: Tokenizer,
    skips: Skips,
    skip: int,
    report: Report,
) -> Iterator[Rows]:
    """The row of each sequence but for the first so many."""
    assert config.input is not None
    scores = score(
        model,
        tokenizer,
        sequences_of(config.input, config, skip, report, skips),
        reduce=config.reduce,
        positions=config.positions,
        both_strands=config.both_strands,
        begin=config.begin,
        window=config.window,
        stride=config.stride,
        soft_masked=config.soft_masked,
        batch=config.batch,
        on_error=config.on_error,
    )
    for found in told(config.regions or config.input, scores, skips):
        yield [{**found.record(), "index": skip + found.index}]


def _of_variants(
    config: Config,
    model: LanguageModel,
    tokenizer: Tokenizer,
    skips: Skips,
    skip: int,
    report: Report,
) -> Iterator[Rows]:
    """The rows of each variant but for the first so many, one an alternative allele."""
    assert config.variants is not None
    assert config.fasta is not None
    file, fasta = config.variants, Fasta(config.fasta)
    bad = partial(skips.add, "a line") if config.on_error == "skip" else None

    def variants() -> Iterator[Variant]:
        count = 0
        for variant in read_vcf(file, on_error=bad):
            report(count, None)
            count += 1
            yield variant
        if not count:
            raise ValueError(f"{file} has no variants")

    scores = score_variants(
        model,
        tokenizer,
        islice(variants(), skip, None),
        fasta,
        window=config.window,
        reduce=config.reduce,
        both_strands=config.both_strands,
        begin=config.begin,
        soft_masked=config.soft_masked,
        batch=config.batch,
        on_error=config.on_error,
    )
    for index, alleles in groupby(naming(file, scores), key=lambda found: found.index):
        rows = []
        for found in alleles:
            if found.skipped is not None:
                place = f"{found.chrom}:{found.position} {found.ref:.20}>{found.alt:.20}"
                skips.add(place, found.skipped)
            rows.append({**found.record(), "index": skip + index})
        yield rows
