"""`hyena embed`: vectors of sequences."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.cli.kept import Skips, kept_results, sequences_of, told
from hyena.cli.saved_model import open_model, warnings_as_notes
from hyena.cli.sequence_options import SequenceOptions, work_of
from hyena.scoring import embed
from hyena.scoring.embeddings import block_of, dtype_of
from hyena.scoring.outputs import VECTORS, check_output, write_vectors

POSITIONAL = ("model", "input")


@dataclass
class Config(SequenceOptions):
    """What to turn into vectors, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    input: Path
    """A file of sequences: text with one in each line, JSON Lines, CSV, TSV, FASTA or FASTQ, packed
    with gzip or not."""
    out: Path
    """File for the vectors, .safetensors, .npz or .parquet. An interrupted command goes on where it
    was."""
    layer: str = "norm"
    """What the vectors are: norm for what the head reads, or blocks.0, blocks.1 and so on for the
    residual stream after a block."""
    pool: Literal["mean", "last", "none"] = "mean"
    """A vector a sequence, the mean over its tokens or that of its last one; or none, a vector a
    token."""
    begin: bool = True
    """Put the end of text before each sequence, as before each document of the training data; it
    gets no vector."""


def run(config: Config) -> None:
    """Writes the vectors to a file, whole or not at all."""
    check_output(config.out, VECTORS)
    model, tokenizer = open_model(config.model, config)
    block_of(config.layer, model.config.layers)
    dtype, skips = dtype_of(model), Skips()
    work = work_of("embed", config, "model", "input", "layer", "pool", "begin")
    with warnings_as_notes(), kept_results(config.out, work, "sequence") as kept:
        skip = kept.done
        with bar("sequences") as report:
            vectors = embed(
                model,
                tokenizer,
                sequences_of(config.input, config, skip, report, skips),
                layer=config.layer,
                pool=config.pool,
                both_strands=config.both_strands,
                begin=config.begin,
                soft_masked=config.soft_masked,
                batch=config.batch,
                on_error=config.on_error,
            )
            for found in told(config.regions or config.input, vectors, skips):
                row = {**found.record(), "index": skip + found.index}
                of = None if found.vectors is None else np.asarray(found.vectors, dtype=dtype)
                kept.append([row], of)
                del found, of  # of a long sequence they may be large: not while the next one runs
        write_vectors(
            config.out, kept, dtype=dtype, width=model.config.width, pooled=config.pool != "none"
        )
    print(f"{config.out}: vectors of {kept.done:,} {plural(kept.done, 'sequence')}")
    skips.close()
