"""Checkpoints that all processes of a run write together, each the part that it keeps.

As a checkpoint of one file (see `hyena.training.checkpoint`), but in place of ``model.safetensors``
and ``optimizer.safetensors`` there are files of `hyena.files.parts`, with all tensors under the
names ``model.NAME`` and ``optimizer.NAME``. The folder has its name only when all parts are there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor
from torch import distributed as dist

from hyena.files import atomic, digests, parts
from hyena.training.checkpoint import checkpoint_name, written

T = TypeVar("T")


def write_checkpoint_in_parts(
    folder: Path, step: int, tensors: Mapping[str, Tensor], write: Callable[[Path], None]
) -> Path:
    """Writes the checkpoint of a step atomically and durably. All processes call it together.

    Args:
        folder: where the checkpoints are, which all processes see.
        step: of which there is none yet.
        tensors: weights and moments as each process keeps them; see `hyena.files.parts.write`.
        write: writes all other files into the folder it is given; the first process calls it.

    Returns: the checkpoint's folder.
    Raises: OSError on every process, in one line that names those that could not write; the earlier
        checkpoints are intact and nothing is left of this one.
    """
    path = folder / checkpoint_name(step)
    temporary = path.with_name(path.name + atomic.TEMPORARY)
    rank = dist.get_rank() if dist.is_initialized() else 0

    def begin() -> None:
        if rank == 0:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()

    def write_part() -> dict[str, str]:
        parts.write(temporary, tensors)
        own = parts.own_files(temporary, rank)
        for file in own:
            atomic.sync(file)
        return {file.name: digests.sha256_of(file) for file in own}

    def complete() -> None:
        if rank == 0:
            write(temporary)
            digests.complete(temporary, *found)
            atomic.sync_tree(temporary)
            os.rename(temporary, path)
            atomic.sync(folder)

    with written(f"checkpoint {path}", folder):
        try:
            _on_all(begin)
            found = _on_all(write_part)
            _on_all(complete)
        except BaseException:
            if rank == 0:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
    return path


def _on_all(work: Callable[[], T]) -> list[T]:
    """What a piece of work finds on each process, in the order of their ranks.

    Raises: OSError on every process if one of them raised it.
    """
    own: T | OSError
    try:
        own = work()
    except OSError as error:
        own = error
    found: list[T | OSError] = [own]
    if dist.is_initialized():
        found = [own] * dist.get_world_size()
        dist.all_gather_object(found, own)
    failures = {rank: each for rank, each in enumerate(found) if isinstance(each, OSError)}
    if isinstance(own, OSError) and len({str(each) for each in failures.values()}) == 1:
        raise own  # which all say alike, or there is one process alone
    if failures:
        raise OSError(parts.of_processes(failures))
    return [each for each in found if not isinstance(each, OSError)]
