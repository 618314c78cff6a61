"""Checkpoints of a cell: ``checkpoints/step-00000200/`` with

- ``model.safetensors``, and for models of tokens ``config.json``: what `hyena.load` reads;
- ``optimizer.safetensors``: AdamW's moments and step counts, by parameter name;
- ``state.json``: `State` and the cell's plain configuration.

One checkpoint stays: the newest.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hyena.experiments.cell import CellConfig, differences, plain
from hyena.experiments.curriculum import Place
from hyena.model import LanguageModel
from hyena.model.checkpoint import read_weights
from hyena.model.saved import WEIGHTS, list_checkpoints
from hyena.training import durable
from hyena.training.checkpoint import (
    REMOVE,
    checkpoint_name,
    restore_optimizer,
)

FORMAT_VERSION = 1
FOLDER, STATE = "checkpoints", "state.json"


@dataclass
class State:
    """Where a training stands, beside weights and moments.

    Attributes:
        step: updates done.
        tokens: tokens of their batches.
        seconds: of the steps.
        total_seconds: with measuring and writing.
        losses: sum of the training losses since the last measurement.
        loss_steps: how many losses that is.
        keys: most different keys in a sequence of the latest batch, None for all.
        curve: the measurements, each a table as in `hyena.experiments.record.Result`.
        place: where it stands among the phases.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    total_seconds: float = 0.0
    losses: float = 0.0
    loss_steps: int = 0
    keys: int | None = None
    curve: list[dict[str, Any]] = field(default_factory=list)
    place: Place = field(default_factory=Place)


def write_checkpoint(
    config: CellConfig, state: State, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Path:
    """Writes the checkpoint of ``state.step``, of which there is none yet, atomically, and then
    removes the others.

    Returns: its folder. Raises: OSError; the checkpoint before is intact then.
    """
    path = config.out / FOLDER / checkpoint_name(state.step)

    def write(folder: Path) -> None:
        if isinstance(model, LanguageModel):
            model.save(folder)
        else:
            weights = {k: v.contiguous() for k, v in model.state_dict().items()}
            save_file(weights, folder / WEIGHTS, {"format": "pt"})
        save_file(_moments(optimizer), folder / "optimizer.safetensors", {"format": "pt"})
        content = {"format_version": FORMAT_VERSION, "config": plain(config), **asdict(state)}
        (folder / STATE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    path.parent.mkdir(parents=True, exist_ok=True)
    durable.remove_temporary(path.parent)
    durable.write_folder(path, write)
    for other in list_checkpoints(path.parent):
        if other != path:
            durable.remove_folder(other)
    return path


def restore(config: CellConfig, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
    """Puts the newest checkpoint of the cell into the model and the optimizer.

    Returns: where it stands; None, and nothing is changed, if there is no checkpoint.
    Raises: ValueError if it is damaged, of another format version or of another configuration.
    """
    found = list_checkpoints(config.out / FOLDER)
    if not found:
        return None
    path = found[-1] / STATE
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        version, before = content.pop("format_version"), content.pop("config")
        if version != FORMAT_VERSION:
            raise ValueError(
                f"it has format version {version}, but this hyena reads {FORMAT_VERSION}"
            )
        place = Place(**content.pop("place"))
        place.recent = [(right, asked) for right, asked in place.recent]
        state = State(**content, place=place)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; {REMOVE}") from error
    changed = differences(before, plain(config))
    if changed:
        raise ValueError(
            f"{config.out} holds another cell: {'; '.join(changed)}. Use the old values, or "
            "another folder"
        )
    model.load_state_dict(read_weights(found[-1] / WEIGHTS))
    restore_optimizer(found[-1], model, optimizer)
    return state


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{moment}": value.contiguous()
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        for moment, value in optimizer.state[parameter].items()
    }
