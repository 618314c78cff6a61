"""Options of the commands that run a model over sequences, such as `hyena score`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hyena.cli.saved_model import ModelOptions
from hyena.scoring.journal import state_of

_SAME_WORK = (
    *("regions", "both_strands", "field", "soft_masked"),
    *("length_policy", "tokenizer"),
)
"""Those that the results depend on."""


@dataclass(kw_only=True)
class SequenceOptions(ModelOptions):
    """How sequences are read, and how the model runs on them."""

    regions: Path | None = None
    """A BED file: its regions of the input, which is FASTA then, are the sequences, each in the
    direction of its strand."""
    both_strands: bool = False
    """Of DNA, take the reverse complement as well, and the mean of both."""
    field: str | None = None
    """Field of JSON Lines, CSV or TSV that holds the sequence; none takes text. Fields called name
    or id may hold its name."""
    soft_masked: Literal["fold", "keep"] = "fold"
    """Lower-case letters of FASTA and FASTQ, and with a tokenizer of DNA those of all files, become
    upper case (fold), or stay (keep)."""
    on_error: Literal["stop", "skip"] = "stop"
    """What is done with a sequence that cannot be taken, such as an empty one, and with a bad line
    of a table: the command ends (stop), or it is left out, and that is said (skip)."""
    batch: int = 8
    """Sequences, or windows of them, at a time."""


def work_of(command: str, options: SequenceOptions, *own: str) -> dict[str, Any]:
    """What the results of a command are of, as JSON: files by what changes when they are written.

    Args: own, the command's own options that the results depend on.
    """
    given = {name: getattr(options, name) for name in (*own, *_SAME_WORK)}
    states = {name: state_of(x) if isinstance(x, Path) else x for name, x in given.items()}
    return {"command": command, **states}
