"""The tensors of a released model, from whichever files they lie in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hyena.files.folder import what_is
from hyena.files.records import read_json
from hyena.interop import pytorch_file
from hyena.model.saved import CONFIG, KIND, WEIGHTS, some

PYTORCH = (".pt", ".pth", ".bin", ".ckpt")
_PART = re.compile(r"(.+)\.part(\d+)$")
_INDEX = ".index.json"
# As Hugging Face's programs call weights, the newer kind first; of one file, or with an index.
_USUAL = (WEIGHTS, "pytorch_model.bin")
# What transformer_engine and torchmetrics leave in a state dict: no weights.
_BESIDE = re.compile(r".*_extra_state|(train|val|test)_torchmetrics\..+")
_INSIDE = ("state_dict", "module", "model")  # where a PyTorch file may have its tensors
_PREFIXES = (  # of which the first word goes
    *("module.", "model.", "hyena.backbone."),
    *("backbone.blocks.", "backbone.embedding_layer.", "backbone.norm.", "backbone.unembed."),
)
_FOUND_BESIDE = ("d_model", "hidden_size", "layer", "model", "model_type", "num_layers")


def is_foreign(path: Path) -> bool:
    """Whether a path is of a model that another program wrote, rather than one of ours or none."""
    if path.is_dir():
        if (path / CONFIG).is_file():
            config = _config(path)
            return "kind" not in config and any(name in config for name in _FOUND_BESIDE)
        ours = what_is(path) is not None
        return not ours and any(file.name != WEIGHTS for file in _weights_in(path))
    if path.is_file():
        ours = path.name == WEIGHTS and _config(path.parent).get("kind") == KIND
        return not ours
    return bool(_parts_of(path))


def find(path: Path) -> list[Path]:
    """The file of weights that a path means; several if it lies in parts or shards.

    Args: path: of a file; of one in parts, ``x.pt`` or any ``x.pt.partN``; of an index of shards;
        or of a folder with one of these.
    Raises: FileNotFoundError if there is none; ValueError if there are several, one whole and one
        in shards among them, or parts lack.
    """
    if path.is_dir():
        return find(_only(path))
    if path.name.endswith(_INDEX):
        return _shards_of(path)
    if not path.is_file() or _PART.fullmatch(path.name):
        parts = _parts_of(path)
        if not parts:
            raise FileNotFoundError(f"no checkpoint at {path}")
        return parts
    return [path]


def read(path: Path) -> dict[str, Tensor]:
    """The tensors by their names, without the prefixes that programs put before them.

    They lie in the file, which is mapped, wherever it has them as they are.

    Raises: as `find`; OSError; ValueError on what is damaged, or no state dict.
    """
    place = _only(path) if path.is_dir() else path
    files = find(place)
    if _PART.fullmatch(files[0].name) or len(files) == 1:
        found = _tensors(files)
    else:
        found = {}
        for file in files:
            more = _tensors([file])
            if twice := found.keys() & more.keys():
                raise ValueError(f"{file} has {some(twice)}, which another file of {path} has too")
            found.update(more)
    if place.name.endswith(_INDEX):
        named = {name for name in _map_of(place) if not _BESIDE.fullmatch(name)}
        if lacking := named - found.keys():
            raise ValueError(
                f"{place} names {some(lacking)}, which its files do not have; download them again"
            )
    short: dict[str, Tensor] = {}
    for name, value in found.items():
        own = _without_prefix(name)
        if own in short:
            raise ValueError(f"{path} has two tensors that are {own}, one of them {name}")
        short[own] = value
    return short


def _without_prefix(name: str) -> str:
    found = True
    while found:
        found = False
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                first = prefix.partition(".")[0] + "."
                name, found = name.removeprefix(first), True
    return name.replace(".mixer.layer.", ".mixer.").replace(".mlp.layer.", ".mlp.")


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    """Of one file, or of one in parts."""
    path = files[0]
    state: Any
    if path.suffix == ".safetensors":
        try:
            state = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or no checkpoint ({error})") from error
    else:
        state = pytorch_file.read(files)
        for name in _INSIDE:
            if isinstance(state, dict) and isinstance(state.get(name), dict):
                state = state[name]
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds no state dict of tensors")
    state = {k: v for k, v in state.items() if not _BESIDE.fullmatch(str(k))}
    pairs = state.items()
    others = [f"{k!s:.60}" for k, v in pairs if not (isinstance(k, str) and isinstance(v, Tensor))]
    if others:
        raise ValueError(f"{path} holds no state dict of tensors: there is also {some(others)}")
    return state


def _only(folder: Path) -> Path:
    """The weights in a folder."""
    found = {path.name: path for path in _weights_in(folder)}
    for usual in _USUAL:
        both = [found[name] for name in (usual, usual + _INDEX) if name in found]
        if len(both) > 1:  # a folder that was written twice: programs differ in which they take
            raise ValueError(
                f"{folder} has both {usual} and {usual}{_INDEX}, of which one is of an older save; "
                "remove that one, or give the other by its path"
            )
        if both:
            return both[0]
    indices = [name for name in found if name.endswith(_INDEX)]
    chosen = indices or list(found)
    if not chosen:
        raise FileNotFoundError(
            f"no checkpoint in {folder}: expected a file that ends in .safetensors or one of "
            f"{', '.join(PYTORCH)}"
        )
    if len(chosen) > 1:
        raise ValueError(f"{folder} has several files of weights: {some(chosen)}; give one")
    return found[chosen[0]]


def _weights_in(folder: Path) -> Iterator[Path]:
    """Files of weights, one in parts by its first."""
    for path in sorted(folder.iterdir()):
        part = _PART.fullmatch(path.name)
        plain = path.suffix in (".safetensors", *PYTORCH) or path.name.endswith(_INDEX)
        first = part is not None and Path(part[1]).suffix in PYTORCH and int(part[2]) == 0
        if (plain or first) and path.is_file():
            yield path


def _parts_of(path: Path) -> list[Path]:
    """All parts of a file in their order; none if it has none."""
    match = _PART.fullmatch(path.name)
    stem = match[1] if match else path.name
    if not path.parent.is_dir():
        return []
    numbered = {
        int(m[2]): file
        for file in path.parent.iterdir()
        if (m := _PART.fullmatch(file.name)) and m[1] == stem
    }
    lacking = [str(i) for i in range(max(numbered, default=-1)) if i not in numbered]
    if lacking:
        raise ValueError(
            f"{path.parent / stem} lies in parts, of which .part{', .part'.join(lacking)} "
            "is not there; download it again"
        )
    return [numbered[i] for i in sorted(numbered)]


def _shards_of(index: Path) -> list[Path]:
    names = sorted(set(_map_of(index).values()))
    outside = [name for name in names if Path(name).name != name]
    if outside or not names:
        raise ValueError(f"{index} names {some(outside)}, which is no file beside it")
    lacking = [name for name in names if not (index.parent / name).is_file()]
    if lacking:
        raise FileNotFoundError(
            f"{index} names {some(lacking)}, which is not there; download it again"
        )
    return [index.parent / name for name in names]


def _map_of(index: Path) -> dict[str, str]:
    """The file of each tensor that an index names."""
    named = read_json(index, advice="download it again").get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(x, str) for x in named.values()):
        raise ValueError(f"{index} is damaged: expected a weight_map of names and files")
    return named


def _config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder; empty if there is none that can be read."""
    try:
        return read_json(folder / CONFIG, advice="")
    except (OSError, ValueError):
        return {}
