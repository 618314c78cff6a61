"""The folder of a run: who may use it, and where in it a run begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena.model.saved import BEST, checkpoints_of, list_checkpoints
from hyena.training import durable
from hyena.training.checkpoint import (
    CONFIG,
    TrainingState,
    checkpoint_name,
    config_yaml,
    point_to_best,
    prune,
    read_training_state,
)
from hyena.training.config import TrainConfig, check_same_run, to_plain
from hyena.training.folder_lock import locked
from hyena.training.metrics import FILE


@dataclass
class Start:
    """Where a run begins: a checkpoint and what it says, or None and step 0."""

    checkpoint: Path | None
    state: TrainingState


def find_start(config: TrainConfig, data: dict[str, Any]) -> Start:
    """Choose between a new run and the newest checkpoint; writes nothing.

    Args:
        config: says which folder, and whether to resume.
        data: fingerprint of the training data.

    Raises: FileExistsError if there is a run and resume was not asked for; ValueError if it has
        another configuration or other data, or if its newest checkpoint is damaged.
    """
    saved = list_checkpoints(checkpoints_of(config.out))
    metrics = config.out / FILE
    begun = bool(saved) or (metrics.is_file() and metrics.stat().st_size > 0)
    if begun and not config.resume:
        raise FileExistsError(
            f"{config.out} already holds a run; continue it with --resume true (resume=True), or "
            "choose another folder with --out"
        )
    if not saved:
        return Start(None, TrainingState(0, 0, None, data, to_plain(config)))
    state = read_training_state(saved[-1])
    check_same_run(state.config, config, saved[-1])
    if state.data != data:
        keys = sorted(
            k for k in data.keys() | state.data.keys() if data.get(k) != state.data.get(k)
        )
        raise ValueError(
            f"cannot resume from {saved[-1]}: the tokens in {config.data} are not those it was "
            f"trained on (different: {', '.join(keys)}); give the old folder with --data"
        )
    state.config = to_plain(config)
    return Start(saved[-1], state)


@contextmanager
def opened(config: TrainConfig, start: Start) -> Iterator[None]:
    """Make the folder, keep other runs out of it, and clear what an interrupted run left.

    The resolved configuration is written into it.

    Raises: OSError if the folder cannot be written; RuntimeError if another run is using it.
    """
    with ExitStack() as until_the_end:
        try:
            until_the_end.enter_context(locked(config.out))
            checkpoints_of(config.out).mkdir(exist_ok=True)
            _tidy(config, start)
        except OSError as error:
            raise _unwritable(config.out, error) from error
        yield


def _tidy(config: TrainConfig, start: Start) -> None:
    """Bring the folder into the state in which the run goes on from ``start``."""
    checkpoints = checkpoints_of(config.out)
    durable.remove_temporary(config.out)
    durable.remove_temporary(checkpoints)
    durable.write_text(config.out / CONFIG, config_yaml(start.state.config))
    best = start.state.best
    if best is not None and (checkpoints / checkpoint_name(best.step)).is_dir():
        point_to_best(checkpoints, best)
    else:
        best = None
        (checkpoints / BEST).unlink(missing_ok=True)
    prune(checkpoints, config.checkpoint.keep, best)


def _unwritable(out: Path, error: OSError) -> OSError:
    return OSError(
        f"the run folder {out} cannot be written: {error.strerror or error}; free space, or choose "
        "another one with --out (out=)"
    )
