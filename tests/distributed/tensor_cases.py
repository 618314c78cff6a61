"""What each rank does for `test_tensor_parallel`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cut_models import (
    SHARED,
    Case,
    Found,
    Prompt,
    inputs_of,
    model_of,
    prompt_and_steps,
)
from torch import distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

import hyena
from hyena import LanguageModel
from hyena.distributed import ContextParallel, save, shard, tensor_parallel
from hyena.distributed.saving import together
from hyena.model import FilterConfig

# Of sizes that two and four ranks divide.
SIZES = {"width": 16, "head_dim": 2}
NAMES = [
    "order 2",
    "order 3",
    "order 3, recomputed",
    "modal",
    "few taps",
    "many taps",
    "state space",
    "striped",
    "padded documents",
    "no tied head",
]
TRAINED = {name: SHARED[name] for name in NAMES}
TRAINED = {name: replace(x, changes={**x.changes, **SIZES}) for name, x in TRAINED.items()}
TRAINED["hybrid"] = Case("hyena,attention", changes={**SIZES, "kv_heads": 4}, single=True)
PROMPTS = {
    "planned": Prompt(TRAINED["order 3"], {"future": 4}),
    "a recurrence": Prompt(TRAINED["modal"]),
    "hybrid": Prompt(TRAINED["hybrid"], {"future": 4}),
}


def meshes() -> DeviceMesh:
    """Two ranks that share layers, and as many pairs of them as there are."""
    pairs = dist.get_world_size() // 2
    return init_device_mesh("cpu", (pairs, 2), mesh_dim_names=("other", "tensor"))


def cut(case: Case, dtype: torch.dtype = torch.float64) -> LanguageModel:
    """Over all ranks."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tensor",))
    return tensor_parallel(model_of(case, dtype), mesh["tensor"])


def gradients(model: LanguageModel) -> Found:
    """Whole ones by their names in one process, on the first rank."""
    found = {}
    for name, p in model.named_parameters():
        found[name] = torch.zeros_like(p) if p.grad is None else p.grad
    return together(model, found)


def trained(name: str) -> dict[str, Found]:
    found = {}
    case = TRAINED[name]
    for dtype in (torch.float64, torch.float32) if case.single else (torch.float64,):
        model = cut(case, dtype)
        loss = model(**inputs_of(case))
        loss.backward()
        found[str(dtype)] = {"loss": loss.detach(), **gradients(model)}
    return found


def share(name: str) -> float:
    """Of the numbers in layers that this rank has."""
    model = cut(TRAINED[name])
    own = [p.to_local() if isinstance(p, DTensor) else p for p in model.blocks.parameters()]
    whole = model_of(TRAINED[name]).blocks.parameters()
    return sum(p.numel() for p in own) / sum(p.numel() for p in whole)


def with_cut_rows(name: str) -> Found:
    """Pairs of ranks share layers, and pairs share rows."""
    mesh, case = meshes(), TRAINED[name]
    model, context = tensor_parallel(model_of(case), mesh["tensor"]), ContextParallel(mesh["other"])
    inputs = {n: context.piece(x) for n, x in inputs_of(case).items()}
    loss = model(**inputs, context=context)
    loss.backward()
    for p in model.parameters():
        if p.grad is not None:
            own = p.grad.to_local() if isinstance(p.grad, DTensor) else p.grad
            dist.all_reduce(own, group=context.group)
            own /= context.processes
    return {"loss": loss.detach(), **gradients(model)}


def sharded(name: str) -> Found:
    """Pairs share layers, each pair with its part of every parameter."""
    mesh, case = meshes(), TRAINED[name]
    model = shard(tensor_parallel(model_of(case), mesh["tensor"]), mesh["other"])
    loss = model(**inputs_of(case))
    loss.backward()
    return {"loss": loss.detach(), **gradients(model)}


def prompt(name: str) -> Found:
    """The state is a part on each rank."""
    found = prompt_and_steps(PROMPTS[name], False, cut(PROMPTS[name].case))
    return {what: found[what] for what in ("logits", "steps")}


def generated() -> list[list[int]]:
    model = cut(TRAINED["hybrid"]).eval()
    return [g.tokens for g in model.generate([[1, 2, 3], [4, 5]], max_new_tokens=6)]


def saved() -> bool:
    """Whether a model that was saved in parts is the one that it was made of."""
    case = TRAINED["hybrid"]
    with tempfile.TemporaryDirectory() as folder:
        save(cut(case), folder)
        if dist.get_rank() > 0:
            return True
        read, wanted = hyena.load(folder).state_dict(), model_of(case).state_dict()
        same = all(torch.equal(read[name], x) for name, x in wanted.items())
        return same and read.keys() == wanted.keys()


def saved_in_a_file() -> None:
    """Which the first rank alone finds out."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "file")
        file.touch()
        save(cut(TRAINED["order 2"]), file)


def refused(**changes: Any) -> None:
    mixers = changes.pop("mixers", "hyena,attention")
    cut(Case(mixers, changes={**SIZES, **changes}))


def on_two_dimensions() -> None:
    tensor_parallel(model_of(TRAINED["order 2"]), meshes())


CASES: dict[str, Any] = {
    **{name: partial(trained, name) for name in TRAINED},
    **{f"share of {name}": partial(share, name) for name in ("order 2", "hybrid")},
    **{f"cut rows, {name}": partial(with_cut_rows, name) for name in ("order 3", "hybrid")},
    **{f"sharded, {name}": partial(sharded, name) for name in ("order 3", "hybrid")},
    **{f"prompt {name}": partial(prompt, name) for name in PROMPTS},
    "generated": generated,
    "saved": saved,
    "saved in a file": saved_in_a_file,
    "another mixer": partial(refused, mixers="hyena,rwkv"),
    "channels": partial(refused, width=15, head_dim=None, mixers="hyena"),
    "heads": partial(refused, kv_heads=1),
    "hidden": partial(refused, mlp_width=21),
    "dropout": partial(refused, dropout=0.1),
    "normalised": partial(refused, mixers="hyena", filter=FilterConfig(normalized=True)),
    "two dimensions": on_two_dimensions,
}
