"""A model in a folder: how it is written, and where in the folder of a run one is.

``model.safetensors`` and ``config.json``, with a format version. In a checkpoint that several
processes wrote, `hyena.files.parts` are in place of the first. Never a pickle: nothing in a
checkpoint can run code.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from hyena.files import digests, parts
from hyena.files.records import from_plain, read_json, to_plain
from hyena.model.config import ModelConfig
from hyena.model.label_head import LabelHead

FORMAT_VERSION = 1
KIND = "hyena language model"

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
OF_MODEL = "model."  # begins the names of weights among tensors in parts
BEST = "best.json"


# Parts of names that other libraries give to weights, and what gives them their own names back.
_UNDONE_BY = {
    r"\.parametrizations\.": "call torch.nn.utils.parametrize.remove_parametrizations first",
    r"(weight|bias)_mask$": "call torch.nn.utils.prune.remove first",
    r"weight_[guv]$": "call torch.nn.utils.remove_weight_norm or remove_spectral_norm first",
    r"\blora_|\bbase_layer\b|\bmodules_to_save\b": (
        "merge adapters first, as by merge_and_unload() of the PeftModel"
    ),
    r"_packed_params\b": "save the model before it is quantised",
}
_OF_ANOTHER_KIND = (
    "hyena.load makes only what the config says; keep changed layers with "
    "safetensors.torch.save_file(model.state_dict(), ...)"
)


def as_read(config: ModelConfig) -> ModelConfig:
    """The configuration as it will be read from its file.

    Raises: ValueError if it has been changed to one that could not be.
    """
    try:
        return from_plain(ModelConfig, to_plain(config), "model")
    except ValueError as error:
        raise ValueError(f"save: the model's config is none any longer: {error}") from error


def write_model(
    folder: Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    label_head: LabelHead | None = None,
) -> None:
    """Writes a model. Weights that share memory are each written under their own name.

    Args:
        folder: where to; made if it is not there.
        config, weights: of the model.
        expected: weights of the names and sizes that the config has, such as on "meta".
        label_head: of the model, whose weights are among the others.

    Raises: ValueError, before anything is written, if it could not be read again; OSError, in one
        line, if it cannot be written; an older model is whole then.
    """
    weights = {name.replace("_orig_mod.", ""): value for name, value in weights.items()}  # compiled
    if label_head is not None:
        like = LabelHead(config.width, label_head.labels, device="meta").state_dict()
        expected = {**expected, **{f"label_head.{name}": value for name, value in like.items()}}
    _check_weights(weights, expected)
    tensors: dict[str, Tensor] = {}
    places = set()
    for name, value in weights.items():
        tensor = value.detach().contiguous()
        place = tensor.device, tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if place in places else tensor
        places.add(place)
    text = description(config, label_head)
    metadata = {"format": "pt"}  # one entry: several are in any order, so that bytes would differ
    files = {
        WEIGHTS: lambda path: save_file(tensors, path, metadata),
        CONFIG: lambda path: path.write_text(text, encoding="utf-8"),
    }
    with _in_one_line(folder):
        digests.write_files(folder, files)


def description(config: ModelConfig, label_head: LabelHead | None = None) -> str:
    """What config.json says of a model."""
    plain = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "model": to_plain(config),
        **({} if label_head is None else {"labels": to_plain(label_head.labels)}),
    }
    return json.dumps(plain, indent=2) + "\n"


def reason_of(error: Exception) -> str:
    """Why something could not be written, in the words of the operating system."""
    if isinstance(error.__cause__, OSError | SafetensorError):
        return reason_of(error.__cause__)  # of a message with advice of its own
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return re.sub(r".*I/O error: | \(os error.*", "", str(error))


def misfit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """What keeps weights from being those of a model, in a few words; None if nothing does.

    Args: the weights by name, and weights of the names and sizes that it has.
    """
    if expected.keys() != weights.keys():
        missing, unknown = expected.keys() - weights.keys(), weights.keys() - expected.keys()
        return f"missing {some(missing)}; unknown {some(unknown)}"
    for name, like in expected.items():
        got = weights[name]
        if got.shape != like.shape:
            return f"expected {name} {tuple(like.shape)}, got {tuple(got.shape)}"
        if not got.is_floating_point():
            return f"expected {name} of floats, got {got.dtype}"
    return None


def some(names: Collection[str], limit: int = 5) -> str:
    """Names in a message: the first of them, if they are many."""
    if not names:
        return "none"
    shown = ", ".join(sorted(names)[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def undone_by(names: Iterable[str]) -> str | None:
    """What gives weights the names of a model back, if another library has given them others."""
    names = list(names)
    advice = (
        text for part, text in _UNDONE_BY.items() if any(re.search(part, name) for name in names)
    )
    return next(advice, None)


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
        "of `hyena train`, of one of its checkpoints, of model.save, or of `hyena convert`, which "
        "opens other programs' models"
    )


def weight_files(folder: Path) -> list[str]:
    """The names of the files with a model's weights: one, or one of each process that wrote."""
    return parts.names(folder) or [WEIGHTS]


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


def _check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """ValueError if `hyena.load` could not read them."""
    wrong = misfit(weights, expected)
    if wrong is not None:
        advice = undone_by(weights.keys() - expected.keys()) or _OF_ANOTHER_KIND
        raise ValueError(f"save: the model does not fit its config: {wrong}; {advice}")
    for name, value in weights.items():
        if value.is_meta:
            raise ValueError(
                f'save: {name} is on the device "meta", where it has no values; load or build the '
                "model on another device"
            )
        if type(value) is not Tensor or value.layout is not torch.strided:
            kind = type(value).__name__ if type(value) is not Tensor else value.layout
            advice = "gather, dequantise or densify it first"
            if hasattr(value, "full_tensor"):  # which is in parts over processes
                advice = "call hyena.distributed.save(model, folder) on all processes"
            raise ValueError(f"save: expected {name} to be a dense tensor, got {kind}; {advice}")


@contextmanager
def _in_one_line(folder: Path) -> Iterator[None]:
    """Says of an error in writing which folder it is of, and what is safe."""
    try:
        if folder.exists() and not folder.is_dir():
            raise FileExistsError("it is a file, and a model is a folder")
        yield
    except (OSError, SafetensorError) as error:
        raise (type(error) if isinstance(error, OSError) else OSError)(
            f"save: the model cannot be written to {folder}: {reason_of(error)}; what was there is "
            "whole. Free space or choose another folder"
        ) from error


def _what_is_there(path: Path) -> str:
    if path.is_file():
        return "is a file"
    if (path / WEIGHTS).is_file():
        return f"has no {CONFIG}" + (f" ({cut})" if (cut := digests.cut_off(path)) else "")
    return "holds neither a saved model nor checkpoints" if path.is_dir() else "does not exist"
