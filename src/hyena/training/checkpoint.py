"""Training checkpoints: a folder that holds everything a run needs to continue exactly.

``checkpoints/step-00001000/`` holds

- ``model.safetensors``, ``config.json``: what `hyena.load` reads;
- the tokenizer's files, so that a checkpoint can be talked to without its data;
- ``optimizer.safetensors``: AdamW's moments and step counts, by parameter name;
- ``training.json``: `TrainingState`, which includes the resolved configuration;
- ``train.yaml``: the same configuration for ``hyena train --config``.

There is no state of a random generator: dropout is seeded anew at every step (see
`hyena.training.loop`), so the step says it all. ``checkpoints/best.json`` points to the best one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hyena.data import Tokenizer
from hyena.model import LanguageModel
from hyena.model.saved import BEST, list_checkpoints, step_of
from hyena.training import durable

FORMAT_VERSION = 1
CONFIG = "train.yaml"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Best:
    """The best evaluation so far: its step and its validation loss (nats per token)."""

    step: int
    validation_loss: float


@dataclass
class TrainingState:
    """Where a run stands, beside its weights and moments.

    Attributes:
        step: finished optimizer steps.
        tokens: tokens seen by the model.
        best: the best evaluation so far, if any.
        data: fingerprint of the training data.
        config: the plain `TrainConfig`.
    """

    step: int
    tokens: int
    best: Best | None
    data: dict[str, Any]
    config: dict[str, Any]


def checkpoint_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def write_checkpoint(
    folder: Path,
    state: TrainingState,
    model: LanguageModel,
    optimizer: torch.optim.Optimizer,
    tokenizer: Tokenizer,
) -> Path:
    """Write the checkpoint of ``state.step`` into ``folder``, atomically and durably.

    Returns: the checkpoint's folder.
    Raises: OSError in one line if it cannot be written; the earlier checkpoints are intact and
        nothing is left of this one.
    """
    path = folder / checkpoint_name(state.step)

    def write(temporary: Path) -> None:
        model.save(temporary)
        tokenizer.save(temporary)
        save_file(
            _optimizer_tensors(model, optimizer),
            temporary / "optimizer.safetensors",
            {"format": "pt", "format_version": str(FORMAT_VERSION)},
        )
        text = json.dumps({"format_version": FORMAT_VERSION, **asdict(state)}, indent=2)
        (temporary / "training.json").write_text(text + "\n", encoding="utf-8")
        (temporary / CONFIG).write_text(config_yaml(state.config), encoding="utf-8")

    try:
        durable.write_folder(path, write)
    except (OSError, SafetensorError) as error:
        raise unwritable(f"checkpoint {path}", error, folder) from error
    return path


def unwritable(what: str, error: Exception, checkpoints: Path) -> OSError:
    """The error of a run that cannot write, in one line that says what is safe."""
    saved = list_checkpoints(checkpoints)
    safe = f"the checkpoints up to {saved[-1]} are intact" if saved else "no checkpoint was written"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return OSError(
        f"{what} could not be written: {reason}; {safe}. Free space or mend the folder, then resume"
    )


def config_yaml(config: dict[str, Any]) -> str:
    """The plain configuration of the run as YAML, without what belonged to one call only.

    Raises: ImportError if PyYAML is missing.
    """
    try:
        import yaml  # comes with jsonargparse
    except ImportError as error:
        raise ImportError("training needs PyYAML; pip install 'hyena[train]'") from error
    lasting = {key: value for key, value in config.items() if key not in ("resume", "stop_after")}
    return str(yaml.safe_dump(lasting, sort_keys=False))


def read_training_state(checkpoint: Path) -> TrainingState:
    """Read training.json.

    Raises: FileNotFoundError if there is none; ValueError if it is of another format version or
        is not what this program writes.
    """
    path = checkpoint / "training.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{checkpoint} is not a training checkpoint: it has no training.json"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("format_version", None)
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is corrupt: {error}; {REMOVE}") from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, but this version of hyena reads "
            f"{FORMAT_VERSION}; use the version that wrote it"
        )
    try:
        best = content.pop("best")
        state = TrainingState(best=None if best is None else Best(**best), **content)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is corrupt: {error}; {REMOVE}") from error
    for name, kind in (("step", int), ("tokens", int), ("data", dict), ("config", dict)):
        if not isinstance(getattr(state, name), kind):
            raise ValueError(f"{path} is corrupt: {name} is {getattr(state, name)!r:.40}; {REMOVE}")
    return state


def restore_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the moments and step counts of a checkpoint into an AdamW over the model's parameters.

    Raises: FileNotFoundError or ValueError if the file is missing, corrupt or of another model.
    """
    path = checkpoint / "optimizer.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{checkpoint} has no optimizer.safetensors; {REMOVE}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is corrupt: {error}; {REMOVE}") from error
    names = _names(model)
    order = [names[p] for group in optimizer.param_groups for p in group["params"]]
    expected = {f"{name}.{moment}" for name in order for moment in _MOMENTS}
    if expected != tensors.keys():
        wrong = sorted(expected ^ tensors.keys())
        raise ValueError(f"{path} belongs to another model: {wrong[0]} is missing or unexpected")
    saved = optimizer.state_dict()
    saved["state"] = {
        i: {moment: tensors[f"{name}.{moment}"].clone() for moment in _MOMENTS}  # aligned
        for i, name in enumerate(order)
    }
    optimizer.load_state_dict(saved)


def point_to_best(folder: Path, best: Best) -> None:
    """Write best.json, atomically: the step, its loss and the name of its checkpoint."""
    pointer = {"checkpoint": checkpoint_name(best.step), **asdict(best)}
    durable.write_text(folder / BEST, json.dumps(pointer, indent=2) + "\n")


def prune(folder: Path, keep: int, best: Best | None) -> None:
    """Remove all checkpoints but the ``keep`` newest and the best."""
    for path in list_checkpoints(folder)[:-keep]:
        if best is None or step_of(path) != best.step:
            durable.remove_folder(path)


REMOVE = "remove this checkpoint to resume from the one before it"


def _names(model: nn.Module) -> dict[Tensor, str]:
    return {parameter: name for name, parameter in model.named_parameters()}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = _names(model)
    return {
        f"{names[parameter]}.{moment}": state[moment].contiguous()
        for parameter, state in optimizer.state.items()
        for moment in _MOMENTS
    }
