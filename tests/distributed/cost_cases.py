"""What each rank does for `test_cost`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from collectives import Collectives
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from hyena.bench.memory import Peak, peak_of
from hyena.distributed import ContextParallel, shard
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.training import OptimizerConfig
from hyena.training.optimizer import adamw


@dataclass(frozen=True)
class Shape:
    """A model, what it is given, and how ranks share it."""

    shard: bool = False
    context: bool = False
    rows: int = 2
    length: int = 512
    recomputed: bool = False
    model: dict[str, Any] = field(default_factory=dict)

    def build(self, device: str = "cpu") -> LanguageModel:
        filter = FilterConfig(emb_dim=3, width=6)
        values = {"vocab_size": 16, "width": 16, "layers": 2, "head_dim": 4, "filter": filter}
        config = ModelConfig(**{**values, "max_length": self.length, **self.model})
        model = LanguageModel(config, device=device)
        model.activation_checkpointing = self.recomputed
        return model


MODES = {"filter": FilterConfig(kind="modal", modes=3)}
SENT = {
    "data": Shape(),
    "fsdp": Shape(shard=True),
    "fsdp, recomputed": Shape(shard=True, recomputed=True),
    "context": Shape(context=True),
    "context, order 3": Shape(context=True, model={"order": 3}),
    "context, recomputed": Shape(context=True, recomputed=True),
    "context, few taps": Shape(
        context=True, model={"filter": FilterConfig(kind="explicit", taps=9)}
    ),
    "context, modes": Shape(context=True, model=MODES),
    "context, hybrid": Shape(context=True, model={"mixers": "hyena,attention", "kv_heads": 2}),
    "fsdp and context": Shape(shard=True, context=True),
}
WIDE = {"vocab_size": 8192, "width": 512, "layers": 3}
KEPT = {
    "data": Shape(rows=1, length=32, recomputed=True, model=WIDE),
    "fsdp": Shape(shard=True, rows=1, length=32, recomputed=True, model=WIDE),
    "fsdp, large vocabulary": Shape(
        shard=True, rows=1, length=32, recomputed=True, model={**WIDE, "vocab_size": 32768}
    ),
    "context": Shape(context=True, rows=1, length=16384, recomputed=True, model={"width": 64}),
}


class Run:
    """A model as ranks share it, and its optimizer."""

    def __init__(self, shape: Shape) -> None:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("all",))
        generator = torch.Generator().manual_seed(dist.get_rank() * (not shape.context))
        ids = torch.randint(16, (shape.rows, shape.length + 1), generator=generator)
        self.inputs: dict[str, Any] = {"input_ids": ids[:, :-1], "targets": ids[:, 1:]}
        if shape.context:
            context = ContextParallel(mesh["all"])
            pieces = {name: context.piece(x) for name, x in self.inputs.items()}
            self.inputs = {**pieces, "context": context}
        model = shape.build()
        self.model: nn.Module = (
            shard(model, mesh) if shape.shard else DistributedDataParallel(model)
        )
        self.optimizer = adamw(model, OptimizerConfig())

    def step(self) -> None:
        self.model(**self.inputs).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def sent(name: str) -> dict[str, Any]:
    """Of the second step, since the first one meets the others."""
    run = Run(SENT[name])
    run.step()
    with Collectives() as found:
        run.step()
    return {"bytes": found.bytes, "unknown": sorted(found.unknown)}


def kept(name: str) -> int | str:
    """Bytes of the process at the peak of the second step, beyond what it had without a model."""
    before = peak_of(lambda: None)
    run = Run(KEPT[name])
    run.step()
    found = peak_of(run.step)
    if isinstance(before, str) or isinstance(found, str):
        return str(before)
    assert isinstance(found, Peak)
    return found.process - before.process


def once() -> None:
    """All that PyTorch loads at its first use."""
    for shape in (SENT["data"], SENT["fsdp"], SENT["context"]):
        Run(shape).step()


CASES: dict[str, Any] = {
    "once": once,
    **{f"sent {name}": partial(sent, name) for name in SENT},
    **{f"kept {name}": partial(kept, name) for name in KEPT},
}
