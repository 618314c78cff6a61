"""`hyena embed`: vectors of sequences."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.cli.kept import Skips, kept_results, naming, sequences_of
from hyena.cli.saved_model import load_model
from hyena.filters import LengthPolicy
from hyena.filters.budget import KEPT_MEMORY
from hyena.model.streaming import WORKING_MEMORY
from hyena.scoring import embed
from hyena.scoring.embeddings import block_of, dtype_of
from hyena.scoring.journal import state_of
from hyena.scoring.outputs import VECTORS, check_output, write_vectors
from hyena.training.device import Accelerator

POSITIONAL = ("model", "input")
_SAME_WORK = (
    *("tokenizer", "layer", "pool", "both_strands", "begin"),
    *("field", "soft_masked", "length_policy"),
)


@dataclass
class Config:
    """What to turn into vectors, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    input: Path
    """A file of sequences: text with one in each line, JSON Lines, FASTA or FASTQ, packed with gzip
    or not."""
    out: Path
    """File for the vectors, .safetensors, .npz or .parquet. An interrupted command goes on where it
    was."""
    layer: str = "norm"
    """What the vectors are: norm for what the head reads, or blocks.0, blocks.1 and so on for the
    residual stream after a block."""
    pool: Literal["mean", "last", "none"] = "mean"
    """A vector a sequence, the mean over its tokens or that of its last one; or none, a vector a
    token."""
    both_strands: bool = False
    """Of DNA, take the mean with the vectors of the reverse complement."""
    begin: bool = True
    """Put the end of text before each sequence, as before each document of the training data; it
    gets no vector."""
    field: str = "text"
    """Field of JSON Lines that holds the sequence; name or id may hold its name."""
    soft_masked: Literal["fold", "keep"] = "fold"
    """Lower-case bases of FASTA and FASTQ become upper case (fold), or stay (keep)."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a sequence does that has no vectors, such as an empty one: end the command, or be
    skipped."""
    batch: int = 8
    """Sequences at a time."""
    length_policy: LengthPolicy | None = None
    """What happens beyond the model's max_length; none takes what is saved with the model."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute; "auto" takes CUDA or MPS when present, else the CPU."""
    working_memory: int = WORKING_MEMORY
    """Bytes of hidden values beyond which a block takes a long input in pieces; fewer take less
    memory and more time."""
    kept_memory: int = KEPT_MEMORY
    """Bytes that all filters together keep their spectra in between calls; 0 keeps none."""


def run(config: Config) -> None:
    """Writes the vectors to a file, whole or not at all."""
    check_output(config.out, VECTORS)
    model, tokenizer = load_model(
        config.model, config.tokenizer, config.accelerator, config.length_policy
    )
    model.working_memory, model.kept_memory = config.working_memory, config.kept_memory
    block_of(config.layer, model.config.layers)
    dtype, skips = dtype_of(model), Skips()
    with kept_results(config.out, _work(config), "sequence") as kept:
        skip = kept.done
        with bar("sequences") as report:
            sequences = sequences_of(config.input, config.field, config.soft_masked, skip, report)
            vectors = embed(
                model,
                tokenizer,
                sequences,
                layer=config.layer,
                pool=config.pool,
                both_strands=config.both_strands,
                begin=config.begin,
                batch=config.batch,
                on_error=config.on_error,
            )
            for found in naming(config.input, vectors):
                if found.skipped is not None:
                    skips.add(found.name, found.skipped)
                row = {**found.record(), "index": skip + found.index}
                of = None if found.vectors is None else np.asarray(found.vectors, dtype=dtype)
                kept.append([row], of)
        write_vectors(
            config.out, kept, dtype=dtype, width=model.config.width, pooled=config.pool != "none"
        )
    print(f"{config.out}: vectors of {kept.done:,} {plural(kept.done, 'sequence')}")
    skips.close()


def _work(config: Config) -> dict[str, Any]:
    """What the vectors are of."""
    files = {name: state_of(getattr(config, name)) for name in ("model", "input")}
    same = {name: getattr(config, name) for name in _SAME_WORK}
    return {"command": "embed", **files, **same}
