"""A model in a folder: how it is written, and where in the folder of a run one is.

``model.safetensors`` and ``config.json``, with a format version. Never a pickle: nothing in a
checkpoint can run code.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from hyena.files import digests
from hyena.files.records import read_json, to_plain
from hyena.model.config import ModelConfig

FORMAT_VERSION = 1
KIND = "hyena language model"

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
BEST = "best.json"


def write_model(folder: Path, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
    """Writes a model. Raises: OSError if that cannot be done; an older model is whole then."""
    tensors = {name: value.detach().contiguous() for name, value in weights.items()}
    description = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "model": to_plain(config),
    }
    text = json.dumps(description, indent=2) + "\n"
    metadata = {"format": "pt"}  # one entry: several are in any order, so that bytes would differ
    files = {
        WEIGHTS: lambda path: save_file(tensors, path, metadata),
        CONFIG: lambda path: path.write_text(text, encoding="utf-8"),
    }
    digests.write_files(folder, files)


def find_model(path: Path) -> Path:
    """The folder of a saved model: the path itself, or of a run the checkpoint with the best
    validation loss, the newest one if the run never evaluated.

    Raises: FileNotFoundError if there is no model; ValueError if best.json is damaged.
    """
    if (path / CONFIG).is_file():
        return path
    checkpoints = checkpoints_of(path)
    best = checkpoints / BEST
    if best.is_file():
        advice = "remove it to use the newest checkpoint"
        name = read_json(best, advice=advice).get("checkpoint")
        if checkpoints / str(name) not in list_checkpoints(checkpoints):
            raise ValueError(f"{best} is damaged: there is no checkpoint {name!r:.40}; {advice}")
        return checkpoints / str(name)
    found = list_checkpoints(checkpoints)
    if found:
        if (found[-1] / CONFIG).is_file():
            return found[-1]
        raise FileNotFoundError(
            f"a language model was asked for in {path}, but {found[-1].name} there has no "
            f"{CONFIG}: a cell of a task with real-valued inputs holds none"
        )
    raise FileNotFoundError(
        f"a model was asked for in {path}, which {_what_is_there(path)}; give the folder of a run "
        "of `hyena train`, of one of its checkpoints, or of model.save"
    )


def checkpoints_of(run: Path) -> Path:
    """Folder of the checkpoints of a run."""
    return run / "checkpoints"


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints in a folder, oldest first; none if there is no such folder."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch(r"step-\d{8,}", path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's name says it is of."""
    return int(checkpoint.name.removeprefix("step-"))


def _what_is_there(path: Path) -> str:
    if path.is_file():
        return "is a file (pickles such as .pt can run code and are never read)"
    if (path / WEIGHTS).is_file():
        return f"has no {CONFIG}"
    return "holds neither a saved model nor checkpoints" if path.is_dir() else "does not exist"
