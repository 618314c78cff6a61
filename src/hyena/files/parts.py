"""Tensors in parts: each process of a run writes a safetensors file with what it keeps of them.

The files are those of PyTorch's distributed checkpoints (DCP), whose planner shares out what
several processes keep alike. DCP's reader leaves a tensor as it was where a part of it is missing,
so `read` looks first whether all is there. Never a pickle.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from . import digests

_PATTERN = "shard-*.safetensors"


def names(folder: Path) -> list[str]:
    """The files with parts: those that are there, and those that the list of digests has."""
    there = {file.name for file in folder.glob(_PATTERN)}
    known = {name for name in digests.listed(folder) if Path(name).match(_PATTERN)}
    return sorted(there | known)


def own_files(folder: Path, rank: int) -> list[Path]:
    """What the process of a rank has written; nothing if others had it all."""
    return sorted(folder.glob(_PATTERN.replace("*", f"{rank + 1:05d}-*")))


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes what this process keeps of tensors. All processes of the run call it together.

    Args:
        folder: is there, for all processes.
        tensors: by the same names on all: `DTensor`s, and tensors that are the same on all.

    Raises: OSError on all of them, naming each process that could not write and why.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    plain = {name: tensor.detach() for name, tensor in tensors.items()}
    try:
        with _without_a_group():
            save(plain, storage_writer=writer)
    except CheckpointException as error:
        failures = {rank: failure[0] for rank, failure in error.failures.items()}
        if not all(isinstance(each, OSError | SafetensorError) for each in failures.values()):
            raise RuntimeError(f"{folder} could not be written in parts: {failures}") from error
        raise OSError(of_processes(failures)) from error


def read(folder: Path, *, device: torch.device | str | None = None) -> dict[str, Tensor]:
    """All tensors of a folder, whole, however many processes wrote them. Exchanges nothing.

    Args: device: where to; the CPU if not given. On "meta" they have shapes and dtypes alone.
    Raises: ValueError, in one line, if a part is missing or damaged.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    for name in names(folder):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder / name} is missing, a part of the weights; restore it from a copy"
            )
    reader = HuggingFaceStorageReader(str(folder))
    found = {}
    try:
        for name, saved in reader.read_metadata().state_dict_metadata.items():
            assert isinstance(saved, TensorStorageMetadata)
            there, size = sum(math.prod(part.sizes) for part in saved.chunks), saved.size
            if there != math.prod(size):
                raise ValueError(
                    f"{folder} lacks parts of {name}: {there} of its {math.prod(size)} numbers "
                    "are there; restore them from a copy"
                )
            found[name] = torch.empty(size, dtype=saved.properties.dtype, device=device)
        if device is None or torch.device(device).type != "meta":
            with _without_a_group():
                load(found, storage_reader=reader, no_dist=True)
    except (SafetensorError, KeyError, CheckpointException) as error:
        raise ValueError(f"a part in {folder} is damaged ({error}); restore it from a copy") from (
            error
        )
    return found


def of_processes(failures: Mapping[int, BaseException]) -> str:
    """Why processes failed, each by its number, in one line."""
    said = (
        f"process {rank}: {getattr(error, 'strerror', None) or error}"
        for rank, error in sorted(failures.items())
    )
    return "; ".join(said)


@contextmanager
def _without_a_group() -> Iterator[None]:
    """Without DCP's warning that a process is alone, which it may be."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is (disabled|unavailable)")
        yield
