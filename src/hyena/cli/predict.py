"""`hyena predict`: labels of sequences by a model that was fine-tuned."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hyena.cli.bar import Report
from hyena.cli.kept import Rows, Skips, deliver, sequences_of, told
from hyena.cli.saved_model import open_model, warnings_as_notes
from hyena.cli.sequence_options import SequenceOptions, work_of
from hyena.data import Tokenizer
from hyena.files.atomic import write_file
from hyena.finetuning import predict
from hyena.finetuning.table import columns_of, write_tsv
from hyena.model import LanguageModel
from hyena.model.label_outputs import label_head_of
from hyena.scoring.journal import Journal
from hyena.scoring.outputs import ROWS, check_output, write_rows

POSITIONAL = ("model", "input")
_TSV = ".tsv"


@dataclass(kw_only=True)
class Config(SequenceOptions):
    """Which labels to predict, and how."""

    model: Path
    """Folder of a training run of a task with labels (its best checkpoint is taken), a checkpoint
    or a saved model."""
    input: Path
    """A file of sequences: a table (.tsv, .csv), JSON Lines, FASTA or FASTQ, or text with one in
    each line, packed with gzip or not."""
    out: Path | None = None
    """File for the labels, .jsonl, .parquet or .tsv. An interrupted command goes on where it was;
    none prints JSON Lines."""
    field: str | None = None
    """Column of a table, or field of JSON Lines, that holds the sequence; none takes the one that
    the model was trained on. Those called name or id may hold its name."""


def run(config: Config) -> None:
    """Prints the labels, or writes them to a file, whole or not at all."""
    if config.out is not None:
        check_output(config.out, (*ROWS, _TSV))
    model, tokenizer = open_model(config.model, config)
    labels, skips = label_head_of("predict", model).labels, Skips()
    if config.field is None:
        config = replace(config, field=labels.sequence)

    def write(out: Path, kept: Journal) -> None:
        columns = columns_of(labels)
        if out.suffix.lower() == _TSV:
            write_file(out, lambda path: write_tsv(path, kept.rows(), [*columns]))
        else:
            write_rows(out, kept, columns)

    work = work_of("predict", config, "model", "input")
    results = partial(_rows, config, model, tokenizer, skips)
    with warnings_as_notes():
        deliver(config.out, work, "sequence", "labels", results, write)
    skips.close()


def _rows(
    config: Config,
    model: LanguageModel,
    tokenizer: Tokenizer,
    skips: Skips,
    skip: int,
    report: Report,
) -> Iterator[Rows]:
    """The row of each sequence but for the first so many."""
    predictions = predict(
        model,
        tokenizer,
        sequences_of(config.input, config, skip, report, skips),
        both_strands=config.both_strands,
        soft_masked=config.soft_masked,
        batch=config.batch,
        on_error=config.on_error,
    )
    for found in told(config.regions or config.input, predictions, skips):
        yield [{**found.record(), "index": skip + found.index}]
