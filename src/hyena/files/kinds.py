"""What a folder is, by the files that each kind has: `what_is`.

A command that is given a folder of another kind says which it is, and leaves it alone.
"""

from __future__ import annotations

from pathlib import Path

RUN = "the folder of a run of `hyena train`"
CELL = "the folder of a cell of `hyena tasks run`"
SWEEP = "the folder of a sweep of `hyena tasks sweep`"
TABLE = "the folder of a table of `hyena tasks table`"
DATA = "a folder of token files of `hyena prepare`"
CHECKPOINT = "a checkpoint of a run"
MODEL = "the folder of a saved model"

# In order: the first of which a folder has a file that matches one of the patterns.
_MARKS: dict[str, tuple[str, ...]] = {
    CHECKPOINT: ("training.json", "state.json"),
    RUN: ("train.yaml", "metrics.jsonl", "checkpoints/step-*/training.json"),
    CELL: ("result.json", "failed.txt", "checkpoints/step-*/state.json"),
    SWEEP: ("sweep.json",),
    DATA: ("manifest.json",),
    MODEL: ("config.json",),
    TABLE: ("results.json",),
}


def what_is(folder: Path) -> str | None:
    """The kind of a folder, in words; None if it is none of ours, empty or not there."""
    for kind, marks in _MARKS.items():
        if any(path.is_file() for mark in marks for path in folder.glob(mark)):
            return kind
    return None


def refuse_other(folder: Path, kind: str) -> None:
    """Refuses to use a folder of another kind as one of ``kind``.

    Raises: FileExistsError that says what it is; it is left as it is.
    """
    found = what_is(folder)
    if found not in (None, kind):
        raise FileExistsError(
            f"{folder} is {found}, which this command does not write to; choose another folder "
            "with --out (out=)"
        )
