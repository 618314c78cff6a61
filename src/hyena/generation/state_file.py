"""The state of a generation in a safetensors file, with a format version."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyena.mixers import AttentionState, HyenaState
from hyena.model import ModelState

FORMAT_VERSION = 1
_KIND = "hyena generation state"


def save_state(state: ModelState, path: str | Path) -> None:
    """Writes ``state`` to the file ``path``; raises OSError if it cannot be written."""
    tensors: dict[str, Tensor] = {}
    kinds = []
    for i, layer in enumerate(state.layers):
        if isinstance(layer, HyenaState):
            kinds.append("hyena")
            tensors[f"layers.{i}.short"] = layer.short
            for n, inputs in enumerate(layer.inputs):
                tensors[f"layers.{i}.inputs.{n}"] = inputs
        else:
            kinds.append("attention")
            tensors[f"layers.{i}.k"], tensors[f"layers.{i}.v"] = layer.k, layer.v
            if layer.mask is not None:
                tensors[f"layers.{i}.mask"] = layer.mask
    metadata = {
        "kind": _KIND,
        "format_version": str(FORMAT_VERSION),
        "layers": json.dumps(kinds),
        "length": str(state.length),
    }
    new = Path(f"{path}.new")  # so that a failure leaves an older state whole
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, new, metadata)
    new.replace(path)


def load_state(path: str | Path, device: torch.device | str = "cpu") -> ModelState:
    """The state saved in ``path``.

    Raises: FileNotFoundError; ValueError if the file is damaged, of another kind or of an unknown
        format version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no generation state at {path}")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    if metadata.get("kind") != _KIND:
        raise ValueError(f"{path} holds no {_KIND}; it was written by something else")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')}, but this hyena reads "
            f"version {FORMAT_VERSION}; install the version of hyena that wrote it, or a newer one"
        )
    try:
        return ModelState(_layers(metadata, tensors), int(metadata["length"]))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error} is missing or wrong") from error


def _layers(
    metadata: dict[str, str], tensors: dict[str, Tensor]
) -> tuple[HyenaState | AttentionState, ...]:
    layers: list[HyenaState | AttentionState] = []
    for i, kind in enumerate(json.loads(metadata["layers"])):
        name = f"layers.{i}"
        if kind == "hyena":
            count = sum(key.startswith(f"{name}.inputs.") for key in tensors)
            inputs = tuple(tensors[f"{name}.inputs.{n}"] for n in range(count))
            layers.append(HyenaState(tensors[f"{name}.short"], inputs))
        else:
            k, v = tensors[f"{name}.k"], tensors[f"{name}.v"]
            layers.append(AttentionState(k, v, tensors.get(f"{name}.mask")))
    return tuple(layers)
