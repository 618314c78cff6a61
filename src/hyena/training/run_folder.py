"""The folder of a run: who may use it, and where in it a run begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena.files import atomic, digests
from hyena.files.kinds import RUN, refuse_other
from hyena.files.lock import locked
from hyena.files.records import to_plain
from hyena.model.saved import BEST, checkpoints_of, list_checkpoints
from hyena.training.checkpoint import (
    CONFIG,
    STATE,
    TrainingState,
    checkpoint_name,
    config_yaml,
    point_to_best,
    prune,
    read_training_state,
    remedy,
)
from hyena.training.config import TrainConfig, check_same_run
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
    if state.tokens != state.step * config.batch * config.window():
        raise ValueError(
            f"{saved[-1] / STATE} is damaged: {state.tokens} tokens after {state.step} steps of "
            f"{config.batch} windows of {config.window()}; {remedy(saved[-1])}"
        )
    digests.check(saved[-1], advice=remedy(saved[-1]))
    state.config = to_plain(config)
    return Start(saved[-1], state)


@contextmanager
def opened(config: TrainConfig, data: dict[str, Any], *, first: bool) -> Iterator[Start]:
    """Finds where a run begins, and meanwhile keeps other runs out of its folder.

    Args: the run; a fingerprint of its data; whether this is its first process, which is the one
        that keeps others out.

    Raises: as `find_start`; OSError if the folder cannot be written; RuntimeError if another run
        is using it; FileExistsError if it is of another kind. Nothing has been changed then.
    """
    refuse_other(config.out, RUN)
    with ExitStack() as until_the_end:
        if first:
            with _in_one_line(config.out):
                until_the_end.enter_context(locked(config.out))
        yield find_start(config, data)


def tidy(config: TrainConfig, start: Start) -> None:
    """Brings the folder into the state in which the run goes on from ``start``.

    What an interrupted run left is removed, and the resolved configuration written.

    Raises: OSError if the folder cannot be written.
    """
    checkpoints = checkpoints_of(config.out)
    with _in_one_line(config.out):
        checkpoints.mkdir(exist_ok=True)
        atomic.remove_temporary(config.out, CONFIG, FILE)
        atomic.remove_temporary(checkpoints, "step-*", BEST)
        atomic.write_text(config.out / CONFIG, config_yaml(start.state.config))
        best = start.state.best
        if best is not None and (checkpoints / checkpoint_name(best.step)).is_dir():
            point_to_best(checkpoints, best)
        else:
            best = None
            (checkpoints / BEST).unlink(missing_ok=True)
        prune(checkpoints, config.checkpoint.keep, best)


@contextmanager
def _in_one_line(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the run folder {out} cannot be written: {error.strerror or error}; free space, or "
            "choose another one with --out (out=)"
        ) from error
