"""The state of a generation in a safetensors file, with a format version.

A layer's state has tensors and numbers, see `hyena.mixers.state.MixerState`. The file has the
tensors as ``layers.I.NAME``, and the numbers in its metadata, with a digest of everything.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hyena.files import atomic
from hyena.generation.results import SequenceState
from hyena.generation.state import ModelState
from hyena.mixers import SPECS
from hyena.ops.stepping.states import normal_tensors

FORMAT_VERSION = 2
_KIND = "hyena generation state"


def save_state(state: ModelState, path: str | Path) -> None:
    """Writes the state of a generation to a file, which is whole or not there.

    Args:
        state: of `hyena.LanguageModel.prefill` or ``step``.
        path: the file, in a folder that is there.

    Raises: OSError if it cannot be written, which leaves an older file as it was; TypeError if it
        is no `ModelState` of our mixers; ValueError if an error left it in the middle of a step, or
        if its rows are at positions of their own.
    """
    if not isinstance(state, ModelState):
        advice = ""
        if isinstance(state, SequenceState):
            advice = "; save its part of the model, state.model, and keep its tokens beside it"
        raise TypeError(f"save_state: expected a ModelState, got a {type(state).__name__}{advice}")
    if not state.whole:
        raise ValueError("save_state: an error left this state in the middle of a step")
    if state.starts is not None:
        raise ValueError(
            "save_state: expected rows at one position, got some at positions of their own; save "
            "them one by one, as ModelState.gather([state.select([i])]) has them"
        )
    # Of several names for one kind of state the first.
    names = {spec.state: name for name, spec in reversed(SPECS.items())}
    for layer in state.layers:
        if type(layer) not in names:
            raise TypeError(
                f"save_state: expected layers of hyena.mixers, got {type(layer).__name__}; "
                "register its mixer with hyena.mixers.mixer.mixer"
            )
    tensors: dict[str, Tensor] = {}
    for i, layer in enumerate(state.layers):
        tensors.update({f"layers.{i}.{name}": x for name, x in layer.tensors().items()})
    metadata = {
        "format": "pt",
        "kind": _KIND,
        "format_version": str(FORMAT_VERSION),
        "layers": json.dumps([names[type(layer)] for layer in state.layers]),
        "settings": json.dumps([layer.settings() for layer in state.layers]),
        "length": str(state.length),
    }
    # The file can hold neither views nor two tensors in one memory.
    own = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    metadata["sha256"] = _digest(metadata, own)
    try:
        Path(path).parent.stat()  # a folder that is not there is no place for one file
        atomic.write_file(Path(path), lambda temporary: save_file(own, temporary, metadata))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OSError(
            f"save_state: {path} cannot be written: {reason}; give another path"
        ) from error


def load_state(path: str | Path, device: torch.device | str = "cpu") -> ModelState:
    """The state in a file of `save_state`.

    Args:
        path: the file.
        device: where its tensors go.

    Raises: FileNotFoundError; ValueError if the file is damaged, of another kind or of an unknown
        format version.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no generation state at {path}")
    try:
        with normal_tensors(), safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    if metadata.get("kind") != _KIND:
        raise ValueError(f"{path} holds no {_KIND}; it was written by something else")
    if metadata.get("format_version") != str(FORMAT_VERSION):
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')}, but this hyena reads "
            f"version {FORMAT_VERSION}; install the version of hyena that wrote it, or a "
            "newer one"
        )
    expected = metadata.pop("sha256", None)  # which an older hyena did not write
    if expected not in (None, _digest(metadata, tensors)):
        raise ValueError(
            f"{path} is damaged: its SHA-256 is not the one it was written with; restore it from a "
            "copy, or read the prompt anew"
        )
    try:
        state, unknown = _state(metadata, tensors)
    except KeyError as error:
        raise ValueError(f"{path} is damaged: {error} is missing") from error
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: its metadata are nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if unknown:
        raise ValueError(
            f"{path} has a layer of the kind {unknown[0]!r}, which this hyena does not know; "
            "install the version of hyena that wrote it, or a newer one"
        )
    return state


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of all that a file says, in whatever order it says it."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, x in sorted(tensors.items()):
        digest.update(json.dumps([name, str(x.dtype), list(x.shape)]).encode())
        digest.update(x.cpu().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _state(
    metadata: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[ModelState, list[str]]:
    """The state of a file, without layers that are none of ours, and the kinds of these; KeyError,
    TypeError or ValueError if it is damaged."""
    kinds, length = json.loads(metadata["layers"]), int(metadata["length"])
    settings = json.loads(metadata["settings"])
    layers, unknown = [], []
    for i, (kind, numbers) in enumerate(zip(kinds, settings, strict=True)):
        if kind not in SPECS:
            unknown.append(kind)
            continue
        name = f"layers.{i}."
        own = {k.removeprefix(name): x for k, x in tensors.items() if k.startswith(name)}
        try:
            layers.append(SPECS[kind].state.from_tensors(own, numbers))
        except KeyError as error:
            raise KeyError(f"{name}{error.args[0]}") from error
        if getattr(layers[-1], "length", length) != length:
            raise ValueError(f"layer {i} is after {layers[-1].length} tokens, the model {length}")
    return ModelState(layers, length), unknown
