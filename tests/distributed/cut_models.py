"""Tiny models on whole rows, and on rows that are cut: the same functions for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from hyena.arguments import IGNORE
from hyena.distributed import ContextParallel
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.config import SSMConfig, StripedConfig

VOCABULARY = 17
KEPT = (
    ".sine_freq",
    ".encoding",
    ".decay",
    "poles",
    "log_dt",
)  # of others filters are noise, or grow

Found = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A model and what it is given."""

    mixers: str = "hyena"
    length: int = 23
    changes: dict[str, Any] = field(default_factory=dict)
    masked: bool = False
    packed: bool = False
    recomputed: bool = False


def explicit(taps: int) -> dict[str, Any]:
    return {"filter": FilterConfig(kind="explicit", taps=taps)}


SHARED = {
    "order 2": Case(),
    "order 3": Case(changes={"order": 3}),
    "order 3, recomputed": Case(changes={"order": 3}, recomputed=True),
    "modal": Case(changes={"filter": FilterConfig(kind="modal", modes=3)}),
    "few taps": Case(changes={**explicit(5), "order": 3}),
    "many taps": Case(changes=explicit(40)),
    "state space": Case(changes={"filter": FilterConfig(kind="s4d"), "ssm": SSMConfig(state=4)}),
    "striped": Case(
        "hyena-se,hyena-mr,hyena-li", changes={"striped": StripedConfig(medium_taps=9)}
    ),
    "hybrid": Case("hyena,attention", changes={"kv_heads": 1}),
    "exactly causal": Case(changes={"block_causal": True, "order": 3}),
    "shorter than a filter": Case(length=5, changes={"short_width": 4, **explicit(4)}),
    "one token": Case("hyena,attention", length=1),
    "padding": Case("hyena,attention", masked=True),
    "documents": Case("hyena,attention", packed=True, changes={"order": 3}),
    "documents of few taps": Case(packed=True, changes=explicit(5)),
    "padded documents": Case("hyena,attention", masked=True, packed=True),
    "learned positions": Case("hyena,attention", changes={"positions": "learned"}),
    "learned positions of documents": Case(packed=True, changes={"positions": "learned"}),
    "normalised filters": Case(
        changes={"filter": FilterConfig(emb_dim=5, width=6, normalized=True)}
    ),
    "no tied head": Case(changes={"tied": False, "norm": "rms", "mlp": "gated"}),
}


def model_of(case: Case, dtype: torch.dtype = torch.float64) -> LanguageModel:
    """The same each time; weights large enough that a wrong block would show."""
    values: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "width": 12,
        "layers": 3 if "," in case.mixers else 2,
        "mlp_width": 20,
        "mixers": case.mixers,
        "max_length": 48,
        "head_dim": 4,
        "filter": FilterConfig(emb_dim=5, width=6, sine_freq=3.0),
    }
    config = ModelConfig(**{**values, **case.changes})
    generator = torch.Generator().manual_seed(5)
    model = LanguageModel(config, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith(KEPT):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.3 * noise)
    model.activation_checkpointing = case.recomputed
    return model.to(dtype).train()


def inputs_of(case: Case) -> dict[str, Tensor]:
    """Ids and targets of two rows, mask and documents where the case has them."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, case.length)
    found = {
        name: torch.randint(VOCABULARY, shape, generator=generator)
        for name in ("input_ids", "targets")
    }
    at = torch.arange(case.length).expand(shape)
    if case.packed:  # one ends where two pieces meet, another goes on there
        edges = torch.tensor([[4, 12, 20], [7, 15, 16]])
        found["document_ids"] = (at[:, :, None] >= edges[:, None]).sum(2)
    if case.masked:
        found["mask"] = at >= torch.tensor([[3], [0]])
        found["targets"] = found["targets"].masked_fill(~found["mask"], IGNORE)
    return found


def context() -> ContextParallel:
    """All ranks."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("context",))
    return ContextParallel(mesh)


def given(case: Case, cut: bool) -> dict[str, Any]:
    """Whole rows, or the piece of them that this rank has."""
    whole = inputs_of(case)
    if not cut:
        return dict(whole)
    here = context()
    return {**{name: here.piece(x) for name, x in whole.items()}, "context": here}


def loss_and_gradients(case: Case, dtype: torch.dtype, cut: bool) -> Found:
    """The gradients are the mean over the ranks, as data parallel training takes it."""
    model = model_of(case, dtype)
    loss = model(**given(case, cut))
    loss.backward()
    found = {"loss": loss.detach()}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if cut:
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        found[name] = gradient
    return found


def with_and_without(case: Case) -> Callable[[], dict[str, Found]]:
    """What a rank finds of a case in both precisions."""
    return lambda: {
        str(dtype): loss_and_gradients(case, dtype, cut=True)
        for dtype in (torch.float64, torch.float32)
    }
