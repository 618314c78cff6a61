"""Reads a saved model; see `hyena.model.saved` for the files.

Never a pickle: nothing in a checkpoint can run code.
"""

import dataclasses
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from hyena.files import digests, parts
from hyena.files.records import from_plain, read_json
from hyena.filters import LengthPolicy
from hyena.generation.model import check_model
from hyena.model.config import ModelConfig
from hyena.model.label_head import LabelHead, Labels
from hyena.model.language_model import LanguageModel
from hyena.model.saved import (
    CONFIG,
    FORMAT_VERSION,
    KIND,
    OF_MODEL,
    WEIGHTS,
    find_model,
    misfit,
    weight_files,
)


def save(model: LanguageModel, directory: str | Path) -> None:
    """`LanguageModel.save`. Raises: as that; TypeError if it is no `LanguageModel`."""
    check_model("save", model, LanguageModel)
    model.save(directory)


def load(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    length_policy: str | None = None,
) -> LanguageModel:
    """The model saved in ``path``, in evaluation mode and the dtype it was saved in, with its head
    for labels if it has one.

    Args:
        path: a folder written by `save`: a model or one checkpoint of a training run. Or the
            run, whose best checkpoint is taken, or the newest if it never evaluated.
        device: where the parameters go; the CPU if not given. On "meta" they have shapes
            and dtypes alone.
        length_policy: instead of the saved one, see `ModelConfig.length_policy`.

    Raises: FileNotFoundError if there is none; ValueError if it is no checkpoint of ours, of an
        unknown format version, damaged, or does not fit its own config, or if this machine has no
        such device.
    """
    path, device = find_model(Path(path)), place_of(device)
    config = read_config(path)
    if length_policy is not None:
        config = dataclasses.replace(config, length_policy=cast(LengthPolicy, length_policy))
    weights = read_model(path, device)
    model = LanguageModel(config, device="meta")
    labels = read_labels(path)
    if labels is not None:
        model.label_head = LabelHead(config.width, labels, device="meta")
    if wrong := misfit(weights, model.state_dict()):
        where = path / WEIGHTS if (path / WEIGHTS).is_file() else f"what is in parts in {path}"
        raise ValueError(f"{where} does not fit its config: {wrong}")
    read = (CONFIG,) if device.type == "meta" else (CONFIG, *weight_files(path))
    digests.check(path, read, advice="restore it from a copy")
    model.load_state_dict(weights, assign=True)
    return model.eval()


def read_config(path: Path) -> ModelConfig:
    """The configuration of the model saved in ``path``; raises as `load`."""
    file = path / CONFIG
    for name, there in (
        (CONFIG, file.is_file()),
        (WEIGHTS, (path / WEIGHTS).is_file() or parts.names(path)),
    ):
        if not there:
            raise FileNotFoundError(
                f"no model in {path}: {name} is not there; expected a folder written by "
                "model.save, or one of a run's checkpoints/step-…"
            )
    description = read_json(file, advice="restore it from a copy")
    if description.get("kind") != KIND:
        raise ValueError(
            f"{file} does not describe a {KIND}; if it is another "
            "program's, `hyena convert` makes one"
        )
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{file} has format version {version!r}, but this hyena reads version "
            f"{FORMAT_VERSION}; install the version of hyena that wrote it, or a newer one"
        )
    try:
        return from_plain(ModelConfig, description.get("model"), "model")
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; restore it from a copy") from error


def read_labels(path: Path) -> Labels | None:
    """What the head for labels of the model saved in ``path`` says, None if it has none; raises as
    `load`."""
    file, advice = path / CONFIG, "restore it from a copy"
    plain = read_json(file, advice=advice).get("labels")
    try:
        return None if plain is None else from_plain(Labels, plain, "labels")
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; {advice}") from error


def read_model(path: Path, device: torch.device | None = None) -> dict[str, torch.Tensor]:
    """Weights of the model saved in ``path``, in one file or in parts; raises as `load`."""
    if not parts.names(path):
        return read_weights(path / WEIGHTS, device)
    found = parts.read(path, device=device)
    return {
        name.removeprefix(OF_MODEL): x for name, x in found.items() if name.startswith(OF_MODEL)
    }


def read_weights(file: Path, device: torch.device | None = None) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file; ValueError if it is damaged or of another kind."""
    meta = device is not None and device.type == "meta"
    try:
        weights = load_file(file, device="cpu" if meta else str(device or "cpu"))
    except SafetensorError as error:
        raise ValueError(
            f"{file} is damaged or no safetensors file ({error}); restore it from a copy "
            "(pickle checkpoints are never read)"
        ) from error
    # In the file tensors lie end to end. A matrix product rounds differently where its operands do
    # not start at a multiple of 64 bytes, so that without copies a resumed run would drift away
    # from one that was not interrupted.
    for name, value in weights.items():
        weights[name] = torch.empty_like(value, device="meta") if meta else value.clone()
    return weights


def place_of(device: torch.device | str | None) -> torch.device:
    """The device so called, the CPU if none is. ValueError if it is not there, since safetensors
    calls the file damaged then."""
    try:
        return torch.empty(0, device=device or "cpu").device
    except (RuntimeError, AssertionError) as error:  # by a build without CUDA
        reason = str(error).splitlines()[0].split(". ")[0]
        raise ValueError(
            f"load: device={str(device)!r} was asked for, but is not there ({reason}); give "
            'device="cpu"'
        ) from error
