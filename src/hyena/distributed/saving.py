"""A model that is in parts over processes, written as a model of one process is."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.tensor import DTensor

from hyena.model import LanguageModel
from hyena.model.saved import as_read, write_model


def save(model: LanguageModel, folder: str | Path) -> None:
    """`hyena.LanguageModel.save` of a model that `shard` or `tensor_parallel` have changed:
    `hyena.load` opens it in one process.

    All processes call it. They put one parameter after the other together; the first one keeps
    them, in the memory of its CPU, and writes them, while the others wait for it.

    Raises: as `hyena.LanguageModel.save`, on every process.
    """
    weights = together(model, model.state_dict())
    wrong: list[Exception | None] = [None]
    if dist.get_rank() == 0:
        try:
            config = as_read(model.config)
            expected = LanguageModel(config, device="meta").state_dict()
            write_model(Path(folder), config, weights, expected, model.label_head)
        except (OSError, ValueError) as error:
            wrong = [error]
    dist.broadcast_object_list(wrong)
    if wrong[0] is not None:
        raise wrong[0]


def together(model: LanguageModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model that is in parts, or their gradients, by the names that they have in one
    process; on the first process, others have none. All processes call it."""
    found: dict[str, Tensor] = {}
    ranges: dict[str, list[Tensor]] = defaultdict(list)
    for name, x in tensors.items():
        whole = x.full_tensor() if isinstance(x, DTensor) else x
        if dist.get_rank() > 0:
            continue
        path, _, last = name.rpartition(".parametrizations.")
        if not path:
            found[name] = whole.cpu()
            continue
        tensor = re.sub(r"\.original\d+$", "", last)
        ranges[f"{path}.{tensor}"].append(whole.cpu())
    for name, parts in ranges.items():
        path, _, tensor = name.rpartition(".")
        style: Any = model.get_submodule(f"{path}.parametrizations.{tensor}.0")
        found[name] = torch.cat(parts, style.dim)
    return found
