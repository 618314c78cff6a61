"""Checkpoints of a cell: ``checkpoints/step-00000200/`` with

- ``model.safetensors``, and for models of tokens ``config.json``: what `hyena.load` reads;
- ``optimizer.safetensors``: AdamW's moments and step counts, by parameter name;
- ``state.json``: `State` and the cell's plain configuration.

One checkpoint stays: the newest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from hyena.experiments.cell import CellConfig, differences, plain
from hyena.experiments.curriculum import Place
from hyena.files import atomic, digests
from hyena.files.records import from_plain, read_versioned, to_plain, write_record
from hyena.model import LanguageModel
from hyena.model.checkpoint import read_weights
from hyena.model.saved import WEIGHTS, list_checkpoints, step_of
from hyena.training.checkpoint import prune, remedy, restore_optimizer, write_checkpoint

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


def save(
    config: CellConfig, state: State, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Path:
    """Writes the checkpoint of ``state.step``, of which there is none yet, atomically, and then
    removes the others.

    Returns: its folder. Raises: OSError; the checkpoint before is intact then.
    """
    folder = config.out / FOLDER

    def write(temporary: Path) -> None:
        if isinstance(model, LanguageModel):
            model.save(temporary)
        else:
            weights = {k: v.contiguous() for k, v in model.state_dict().items()}
            save_file(weights, temporary / WEIGHTS, {"format": "pt"})
        content = {"config": plain(config), **to_plain(state)}
        write_record(temporary / STATE, content, FORMAT_VERSION)

    folder.mkdir(parents=True, exist_ok=True)
    atomic.remove_temporary(folder, "step-*")
    path = write_checkpoint(folder, state.step, optimizer, write)
    prune(folder, 1, best=None)
    return path


def restore(config: CellConfig, model: nn.Module, optimizer: torch.optim.Optimizer) -> State | None:
    """Puts the newest checkpoint of the cell into the model and the optimizer.

    Returns: where it stands; None, and nothing is changed, if there is no checkpoint.
    Raises: ValueError if it is damaged, of another format version or of another configuration.
    """
    found = list_checkpoints(config.out / FOLDER)
    if not found:
        return None
    checkpoint = found[-1]
    path, advice = checkpoint / STATE, remedy(checkpoint)
    if not path.is_file():
        raise ValueError(
            f"{checkpoint} is no checkpoint of a cell: it has no {STATE}; use another folder, or "
            "restore it from a copy"
        )
    content = read_versioned(path, FORMAT_VERSION, advice=advice)
    before = content.pop("config", None)
    try:
        changed = differences(from_plain(dict[str, Any], before, "config"), plain(config))
        state = from_plain(State, content)
        if state.step != step_of(checkpoint):
            raise ValueError(f"its step is {state.step}")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {advice}") from error
    if changed:
        raise ValueError(
            f"{config.out} holds another cell: {'; '.join(changed)}. Use the old values, or "
            "another folder"
        )
    digests.check(checkpoint, advice=advice)
    model.load_state_dict(read_weights(checkpoint / WEIGHTS))
    restore_optimizer(checkpoint, optimizer)
    return state
