"""`hyena predict`: labels of sequences by a model that was fine-tuned."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hyena.arguments import plural
from hyena.cli.bar import Report, bar
from hyena.cli.kept import Skips, kept_results, naming, sequences_of
from hyena.cli.sequence_options import SequenceOptions, open_model, work_of
from hyena.data import Tokenizer
from hyena.files.atomic import write_file
from hyena.finetuning import Prediction, predict
from hyena.finetuning.table import columns_of, write_tsv
from hyena.model import LanguageModel
from hyena.model.label_outputs import label_head_of
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
    field: str = "sequence"
    """Column of a table, or field of JSON Lines, that holds the sequence; name or id may hold its
    name."""


def run(config: Config) -> None:
    """Prints the labels, or writes them to a file, whole or not at all."""
    if config.out is not None:
        check_output(config.out, (*ROWS, _TSV))
    model, tokenizer = open_model(config.model, config)
    labels, skips = label_head_of("predict", model).labels, Skips()
    if config.out is None:
        for found in _predictions(config, model, tokenizer, skips, 0, _unseen):
            print(json.dumps(found.record()), flush=True)
    else:
        work = work_of("predict", config, "model", "input")
        with kept_results(config.out, work, "sequence") as kept:
            skip = kept.done
            with bar("sequences") as report:
                for found in _predictions(config, model, tokenizer, skips, skip, report):
                    kept.append([{**found.record(), "index": skip + found.index}])
            columns = columns_of(labels)
            if config.out.suffix.lower() == _TSV:
                write_file(config.out, lambda path: write_tsv(path, kept.rows(), [*columns]))
            else:
                write_rows(config.out, kept, columns)
        print(f"{config.out}: labels of {kept.done:,} {plural(kept.done, 'sequence')}")
    skips.close()


def _unseen(done: int, total: int | None, count: int | None = None) -> None:
    """A bar would stand between the lines that are printed."""


def _predictions(
    config: Config,
    model: LanguageModel,
    tokenizer: Tokenizer,
    skips: Skips,
    skip: int,
    report: Report,
) -> Iterator[Prediction]:
    """Of each sequence but for the first so many."""
    predictions = predict(
        model,
        tokenizer,
        sequences_of(config.input, config, skip, report, skips),
        both_strands=config.both_strands,
        batch=config.batch,
        on_error=config.on_error,
    )
    for found in naming(config.regions or config.input, predictions):
        if found.skipped is not None:
            skips.add(found.name, found.skipped)
        yield found
