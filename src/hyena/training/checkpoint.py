"""The folder of a run: who may use it, where in it a run begins, and its checkpoints.

``checkpoints/step-00001000/`` holds everything that a run needs to continue exactly:

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hyena.files import atomic, digests, parts, records
from hyena.files.folder import RUN, locked, refuse_other
from hyena.files.records import to_plain
from hyena.finetuning.config import LANGUAGE_MODELING
from hyena.model import LanguageModel
from hyena.model.saved import (
    BEST,
    as_read,
    checkpoints_of,
    find_model,
    list_checkpoints,
    reason_of,
    step_of,
    weight_files,
    write_model,
)
from hyena.training.config import TrainConfig, check_config
from hyena.training.metrics import FILE
from hyena.training.parts import in_parts_as
from hyena.training.resume import continued

FORMAT_VERSION = 1
CONFIG, STATE, OPTIMIZER = "train.yaml", "training.json", "optimizer.safetensors"
OF_OPTIMIZER = "optimizer."  # begins the names of moments among tensors in parts
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
        initial: SHA-256 of the weights that the run began with, if they were not drawn.
    """

    step: int
    tokens: int
    best: Best | None
    data: dict[str, Any]
    config: dict[str, Any]
    initial: str | None = None


def checkpoint_name(step: int) -> str:
    """Name of the folder of a step's checkpoint."""
    return f"step-{step:08d}"


def write_checkpoint(
    folder: Path, step: int, moments: Mapping[str, Tensor], write: Callable[[Path], None]
) -> Path:
    """Writes the checkpoint of a step atomically and durably, with digests of all its files.

    Args:
        folder: where the checkpoints are.
        step: of which there is none yet.
        moments: see `moments`, whole ones.
        write: writes all files but the optimizer's into the folder it is given.

    Returns: the checkpoint's folder.
    Raises: OSError in one line if it cannot be written; the earlier checkpoints are intact and
        nothing is left of this one.
    """
    path = folder / checkpoint_name(step)

    def write_all(temporary: Path) -> None:
        write(temporary)
        plain = {name: x.contiguous() for name, x in moments.items()}
        save_file(plain, temporary / OPTIMIZER, {"format": "pt"})
        digests.complete(temporary)

    with written(f"checkpoint {path}", folder):
        atomic.write_folder(path, write_all)
    return path


def save_model(model: LanguageModel, folder: Path, weights: Mapping[str, Tensor] | None) -> None:
    """`LanguageModel.save`, with other weights than the parts of them that it keeps."""
    if weights is None:
        model.save(folder)
        return
    config = as_read(model.config)
    write_model(folder, config, weights, LanguageModel(config, device="meta").state_dict())


@contextmanager
def written(what: str | Path, checkpoints: Path) -> Iterator[None]:
    """Says of an error in writing, in one line, what could not be written and what is safe.

    Raises: OSError in place of OSError and SafetensorError.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        saved = list_checkpoints(checkpoints)
        safe = (
            f"the checkpoints up to {saved[-1]} are intact"
            if saved
            else "no checkpoint was written"
        )
        raise OSError(
            f"{what} could not be written: {reason_of(error)}; {safe}. Free space or mend the "
            "folder, then resume"
        ) from error


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


def read_training_state(checkpoint: str | Path) -> TrainingState:
    """What training.json says.

    Raises: FileNotFoundError if there is none; ValueError if it is of another format version,
        damaged, or does not fit the checkpoint's name.
    """
    checkpoint = Path(checkpoint)
    path = checkpoint / STATE
    if not path.is_file():
        raise FileNotFoundError(
            f"{checkpoint} is no checkpoint of `hyena train`: it has no {STATE}; choose another "
            "folder with --out, or restore it from a copy"
        )
    advice = remedy(checkpoint)
    state = records.read_record(path, TrainingState, FORMAT_VERSION, advice=advice)
    best = state.step if state.best is None else state.best.step
    if state.step != step_of(checkpoint) or not 0 <= best <= state.step:
        raise ValueError(
            f"{path} is damaged: step {state.step} and best step {best} in a folder that is called "
            f"{checkpoint.name}; {advice}"
        )
    return state


def restore_optimizer(checkpoint: Path, optimizer: torch.optim.Optimizer) -> None:
    """Puts the moments and step counts of a checkpoint into an AdamW of `hyena.training.adamw`.

    Raises: FileNotFoundError or ValueError if the file is missing, damaged or of another model.
    """
    path, tensors = checkpoint / OPTIMIZER, _saved_moments(checkpoint)
    parameters = _named(optimizer)
    expected = {
        f"{name}.{moment}": torch.empty(()) if moment == "step" else parameter
        for name, parameter in parameters.items()
        for moment in _MOMENTS
    }
    wrong = sorted(expected.keys() ^ tensors.keys())
    if wrong:
        raise ValueError(f"{path} belongs to another model: {wrong[0]} is missing or unexpected")
    for name, tensor in tensors.items():
        like = expected[name]
        if (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            raise ValueError(
                f"{path} is damaged or belongs to another model: {name} is {tensor.dtype} "
                f"{tuple(tensor.shape)}, expected {like.dtype} {tuple(like.shape)}; "
                f"{remedy(checkpoint)}"
            )
    saved = optimizer.state_dict()
    saved["state"] = {
        i: {moment: _as_kept(tensors[f"{name}.{moment}"], parameter) for moment in _MOMENTS}
        for i, (name, parameter) in enumerate(parameters.items())
    }
    optimizer.load_state_dict(saved)


def _saved_moments(checkpoint: Path) -> dict[str, Tensor]:
    """As `moments`, whole; in one file or in parts."""
    path = checkpoint / OPTIMIZER
    if parts.names(checkpoint):
        found = parts.read(checkpoint)
        return {
            name.removeprefix(OF_OPTIMIZER): x
            for name, x in found.items()
            if name.startswith(OF_OPTIMIZER)
        }
    if not path.is_file():
        raise FileNotFoundError(f"{checkpoint} has no {OPTIMIZER}; {remedy(checkpoint)}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; {remedy(checkpoint)}") from error


def _as_kept(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A moment or a count of steps as the optimizer keeps it, aligned."""
    return in_parts_as(tensor, parameter).clone() if tensor.ndim else tensor.clone()


def point_to_best(folder: Path, best: Best) -> None:
    """Writes best.json, atomically: the step, its loss and the name of its checkpoint."""
    pointer = {"checkpoint": checkpoint_name(best.step), **asdict(best)}
    atomic.write_text(folder / BEST, json.dumps(pointer, indent=1) + "\n")


def prune(folder: Path, keep: int, best: Best | None) -> None:
    """Removes all checkpoints but the ``keep`` newest and the best."""
    for path in list_checkpoints(folder)[:-keep]:
        if best is None or step_of(path) != best.step:
            atomic.remove_folder(path)


def remedy(checkpoint: Path) -> str:
    """What to do about a damaged checkpoint."""
    if list_checkpoints(checkpoint.parent)[:1] not in ([], [checkpoint]):
        return "remove this checkpoint to resume from the one before it"
    return "there is none before it: restore it from a copy, or begin again in another folder"


@dataclass
class Start:
    """Where a run begins: a checkpoint and what it says, or None and step 0; and the configuration
    with which it goes on from there."""

    checkpoint: Path | None
    state: TrainingState
    config: TrainConfig


def find_start(config: TrainConfig, data: dict[str, Any]) -> Start:
    """Chooses between a new run and the newest checkpoint; writes nothing.

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
        check_config(replace(config, resume=False))  # it begins, whatever was asked for
        initial = None
        if config.init is not None:
            initial = _digest_of(find_model(Path(config.init)))
        return Start(None, TrainingState(0, 0, None, data, to_plain(config), initial), config)
    state = read_training_state(saved[-1])
    config = continued(state.config, config, saved[-1], state.step)
    if state.data != data:
        keys = sorted(
            k for k in data.keys() | state.data.keys() if data.get(k) != state.data.get(k)
        )
        raise ValueError(
            f"cannot resume from {saved[-1]}: the tokens in {config.data} are not those it was "
            f"trained on (different: {', '.join(keys)}); give the old folder with --data"
        )
    windows = config.task == LANGUAGE_MODELING  # all of one length
    if windows and state.tokens != state.step * config.tokens_per_step():
        raise ValueError(
            f"{saved[-1] / STATE} is damaged: {state.tokens} tokens after {state.step} steps of "
            f"{config.batch} windows of {config.window()}; {remedy(saved[-1])}"
        )
    digests.check(saved[-1], advice=remedy(saved[-1]))
    state.config = to_plain(config)
    return Start(saved[-1], state, config)


def _digest_of(model: Path) -> str:
    """SHA-256 of the weights of a saved model; in parts, of those of the files."""
    found = [digests.sha256_of(model / name) for name in weight_files(model)]
    return found[0] if len(found) == 1 else sha256("".join(found).encode()).hexdigest()


@contextmanager
def opened(config: TrainConfig, data: dict[str, Any], *, first: bool) -> Iterator[Start]:
    """Finds where a run begins, and meanwhile keeps other runs out of its folder.

    Args:
        config: the run.
        data: a fingerprint of its data.
        first: whether this is its first process, which is the one that keeps others out.

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


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an AdamW of `hyena.training.adamw`: ``NAME.exp_avg`` and so on."""
    return {
        f"{name}.{moment}": optimizer.state[parameter][moment]
        for name, parameter in _named(optimizer).items()
        for moment in _MOMENTS
    }


def _named(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The parameters in the optimizer's order."""
    return {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }


@contextmanager
def _in_one_line(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"the run folder {out} cannot be written: {error.strerror or error}; free space, or "
            "choose another one with --out (out=)"
        ) from error
