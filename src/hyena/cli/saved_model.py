"""The model, tokenizer and device that options on the command line mean."""

import json
from pathlib import Path

import hyena
from hyena.data import Tokenizer, load_tokenizer
from hyena.filters import LengthPolicy
from hyena.model import LanguageModel
from hyena.training.checkpoint import BEST, list_checkpoints
from hyena.training.device import Accelerator, find_device
from hyena.training.run_folder import checkpoints_of


def find_model(path: Path) -> Path:
    """The folder of a saved model: the path itself, or a checkpoint of the run in it.

    Args:
        path: a folder written by ``LanguageModel.save``, one checkpoint of a run, or the run.

    Returns: the folder for `hyena.load`. Of a run, the checkpoint with the best validation loss
    is taken, or the newest one if the run never evaluated.

    Raises: FileNotFoundError if there is no model; ValueError if best.json is damaged.
    """
    if (path / "config.json").is_file():
        return path
    checkpoints = checkpoints_of(path)
    best = checkpoints / BEST
    if best.is_file():
        try:
            return checkpoints / str(json.loads(best.read_bytes())["checkpoint"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{best} is damaged ({error}); remove it to use the newest checkpoint"
            ) from error
    found = list_checkpoints(checkpoints)
    if found:
        if (found[-1] / "config.json").is_file():
            return found[-1]
        raise FileNotFoundError(
            f"a language model was asked for in {path}, but {found[-1].name} there has no "
            "config.json: a cell of a task with real-valued inputs holds none"
        )
    raise FileNotFoundError(
        f"a model was asked for in {path}, which {_what_is_there(path)}; give the folder of a run "
        "of `hyena train`, of one of its checkpoints, or of model.save"
    )


def _what_is_there(path: Path) -> str:
    if path.is_file():
        return "is a file (pickles such as .pt can run code and are never read)"
    return "holds neither a saved model nor checkpoints" if path.is_dir() else "does not exist"


def load_model(
    path: Path,
    tokenizer: str | None,
    accelerator: Accelerator,
    length_policy: LengthPolicy | None,
) -> tuple[LanguageModel, Tokenizer]:
    """A saved model in eval mode on its device, and its tokenizer.

    Args:
        path: see `find_model`.
        tokenizer: see `hyena.data.load_tokenizer`; none takes the one saved with the model.
        accelerator: see `find_device`.
        length_policy: for inputs longer than max_length; none takes the one saved with the model.

    Raises: FileNotFoundError or ValueError if one of them is missing, damaged or does not fit.
    """
    device = find_device(accelerator)
    folder = find_model(path)
    model = hyena.load(folder, device=device, length_policy=length_policy)
    own = own_tokenizer(folder)
    found = own if tokenizer is None else load_tokenizer(tokenizer)
    if found is None:
        raise FileNotFoundError(
            f"no tokenizer is saved with the model in {folder}; give one with --tokenizer"
        )
    if found.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"tokenizer {found.name} has {found.vocab_size} ids, but the model in {folder} has "
            f"vocab_size {model.config.vocab_size}; give the model's own with --tokenizer"
        )
    if own is not None and own.fingerprint != found.fingerprint:
        raise ValueError(
            f"tokenizer {found.name} was asked for, but the model in {folder} was trained with "
            f"tokenizer {own.name}, which is saved with it; leave --tokenizer out"
        )
    return model, found


def own_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer saved with a model; None if there is none."""
    try:
        return load_tokenizer(folder)
    except FileNotFoundError:
        return None
