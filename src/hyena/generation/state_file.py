"""The state of a generation in a safetensors file, with a format version.

A layer's state is a NamedTuple whose fields are tensors, tensors or None, or tuples of tensors. The
file has them as ``layers.I.FIELD`` and ``layers.I.FIELD.N``, and what is None is not there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyena.mixers import (
    AFTConvState,
    AttentionState,
    GSSState,
    H3State,
    HyenaState,
    LinearAttentionState,
    RWKVState,
    S4DState,
)
from hyena.model import ModelState

FORMAT_VERSION = 1
_KIND = "hyena generation state"
# The state of each mixer, by the mixer's name in `hyena.ModelConfig`.
_STATES: dict[str, Any] = {
    "hyena": HyenaState,
    "attention": AttentionState,
    "linear-attention": LinearAttentionState,
    "rwkv": RWKVState,
    "aft-conv": AFTConvState,
    "s4d": S4DState,
    "h3": H3State,
    "gss": GSSState,
}
_NAMES = {state: name for name, state in _STATES.items()}


def save_state(state: ModelState, path: str | Path) -> None:
    """Writes ``state`` to the file ``path``; raises OSError if it cannot be written."""
    tensors: dict[str, Tensor] = {}
    for i, layer in enumerate(state.layers):
        for field, value in zip(layer._fields, layer, strict=True):
            name = f"layers.{i}.{field}"
            if isinstance(value, Tensor):
                tensors[name] = value
            elif value is not None:
                tensors.update({f"{name}.{n}": tensor for n, tensor in enumerate(value)})
    metadata = {
        "kind": _KIND,
        "format_version": str(FORMAT_VERSION),
        "layers": json.dumps([_NAMES[type(layer)] for layer in state.layers]),
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
        kinds = json.loads(metadata["layers"])
        layers = [_layer(kind, f"layers.{i}", tensors) for i, kind in enumerate(kinds)]
        return ModelState(tuple(layers), int(metadata["length"]))
    except _UnknownKindError as error:
        raise ValueError(
            f"{path} has a layer of the kind {error.args[0]!r}, which this hyena does not know; "
            "install the version of hyena that wrote it, or a newer one"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error} is missing or wrong") from error


class _UnknownKindError(Exception):
    """A kind of layer that has no state here."""


def _layer(kind: str, name: str, tensors: dict[str, Tensor]) -> Any:
    """The state of one layer; KeyError if a tensor is missing."""
    if kind not in _STATES:
        raise _UnknownKindError(kind)
    state = _STATES[kind]
    values: list[Any] = []
    for field, type_ in get_type_hints(state).items():
        key = f"{name}.{field}"
        if get_origin(type_) is tuple:
            count = sum(other.startswith(f"{key}.") for other in tensors)
            values.append(tuple(tensors[f"{key}.{n}"] for n in range(count)))
        elif type(None) in get_args(type_):
            values.append(tensors.get(key))
        else:
            values.append(tensors[key])
    return state(*values)
