"""What each rank does for `test_memory_of_cut_rows`."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from hyena.bench.memory import peak_of
from hyena.distributed import ContextParallel
from hyena.model import FilterConfig, LanguageModel, ModelConfig

LENGTH = 65_536


def step() -> int | str:
    """Bytes that a step of training takes on this rank; one rank has the row whole."""
    config = ModelConfig(
        width=64, layers=2, vocab_size=16, max_length=LENGTH, filter=FilterConfig(width=8)
    )
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0)).train()
    model.activation_checkpointing, model.working_memory = True, 1 << 22
    row = torch.randint(16, (1, LENGTH + 1), generator=torch.Generator().manual_seed(1))
    given: dict[str, Any] = {"input_ids": row[:, :-1], "targets": row[:, 1:]}
    if dist.get_world_size() > 1:
        context = ContextParallel(init_device_mesh("cpu", (dist.get_world_size(),)))
        given = {**{n: context.piece(x) for n, x in given.items()}, "context": context}
    few = {n: x[:, :64] if isinstance(x, torch.Tensor) else x for n, x in given.items()}
    model(**few).backward()  # what PyTorch takes at its first calls
    peak = peak_of(lambda: model(**given).backward())
    return peak if isinstance(peak, str) else peak.call


CASES = {"step": step}
