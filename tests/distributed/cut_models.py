"""Tiny models on whole rows, and on rows that are cut: the same functions for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from hyena.arguments import IGNORE
from hyena.distributed import ContextParallel
from hyena.mixers.hyena import cut, groups
from hyena.model import FilterConfig, LanguageModel, ModelConfig, streaming
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
    late: bool = False  # the first piece has no target
    recomputed: bool = False
    in_groups: bool = False  # whatever the length, see `short_rows_go_by_groups`
    single: bool = False  # in float32 too


def explicit(taps: int) -> dict[str, Any]:
    return {"filter": FilterConfig(kind="explicit", taps=taps)}


SHARED = {
    "order 2": Case(single=True),
    "order 3": Case(changes={"order": 3}, single=True),
    "order 3, recomputed": Case(changes={"order": 3}, recomputed=True),
    "modal": Case(changes={"filter": FilterConfig(kind="modal", modes=3)}, single=True),
    "documents of modes": Case(
        packed=True, changes={"filter": FilterConfig(kind="modal", modes=3), "order": 3}
    ),
    "many modes": Case(changes={"filter": FilterConfig(kind="modal", modes=24)}),
    "few taps": Case(length=43, changes={**explicit(5), "order": 3}, single=True),
    "many taps": Case(changes=explicit(40)),
    "state space": Case(
        masked=True,
        changes={"filter": FilterConfig(kind="s4d"), "ssm": SSMConfig(state=4), "order": 3},
    ),
    "striped": Case(
        "hyena-se,hyena-mr,hyena-li", changes={"striped": StripedConfig(medium_taps=9)}
    ),
    "hybrid": Case("hyena,attention", changes={"kv_heads": 1}, single=True),
    "a piece without a target": Case(late=True),
    "exactly causal": Case(changes={"block_causal": True, "order": 3}),
    "shorter than a filter": Case(length=5, changes={"short_width": 4, **explicit(4)}),
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
        "layers": len(case.mixers.split(",")),
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
    if case.in_groups:
        model.working_memory = 0
    return model.to(dtype).train()


def inputs_of(case: Case, rows: int = 2) -> dict[str, Tensor]:
    """Ids and targets of some rows; of two, mask and documents where the case has them."""
    generator = torch.Generator().manual_seed(1)
    shape = (rows, case.length)
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
    if case.late:
        found["targets"] = found["targets"].masked_fill(at < 15, IGNORE)
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


@contextmanager
def short_rows_go_by_groups() -> Iterator[list[None]]:
    """Within it blocks go in pieces whatever the length; grows with each that does, forward or
    backward."""
    calls: list[None] = []
    between = cut.between_projections

    def counted(*given: Any) -> Any:
        calls.append(None)
        return between(*given)

    with (
        patch.object(groups, "SHORTEST", 1),
        patch.object(streaming, "LEAST_SLICE_BYTES", 5 * 8 * 48),
        patch.object(cut, "between_projections", counted),
    ):
        yield calls


def loss_and_gradients(case: Case, dtype: torch.dtype, cut: bool, rows: int = 2) -> Found:
    """The gradients are the mean over the ranks, as data parallel training takes it."""
    model = model_of(case, dtype)
    loss = model(**(given(case, cut) if cut else inputs_of(case, rows)))
    loss.backward()
    found = {"loss": loss.detach()}
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if cut:
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        found[name] = gradient
    return found


def in_each_precision(case: Case) -> Callable[[], dict[str, Found]]:
    """What a rank finds of a case."""
    dtypes = (torch.float64, torch.float32) if case.single else (torch.float64,)
    return lambda: {str(dtype): loss_and_gradients(case, dtype, cut=True) for dtype in dtypes}


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what a prefill is told beside it."""

    case: Case
    options: dict[str, Any] = field(default_factory=dict)


PROMPTS = {
    "inputs kept": Prompt(Case(changes={"order": 3})),
    "planned": Prompt(Case(changes={"order": 3}), {"future": 4}),
    "planned and kept": Prompt(Case(), {"future": 2, "keep_inputs": torch.float64}),
    "a recurrence": Prompt(SHARED["modal"]),
    "few taps": Prompt(SHARED["few taps"]),
    "hybrid, padded": Prompt(SHARED["padding"], {"future": 4, "last_only": True}),
}


@torch.no_grad()
def prompt_and_steps(prompt: Prompt, cut: bool, model: LanguageModel | None = None) -> Found:
    """Logits of the prompt, what is left behind it, and the logits of three tokens more."""
    model = (model_of(prompt.case) if model is None else model).eval()
    inputs = given(prompt.case, cut)
    del inputs["targets"]
    logits, state = model.prefill(**inputs, **prompt.options)
    found = {"logits": logits}
    for i, layer in enumerate(state.layers):
        found |= {f"{i}.{name}": x.clone() for name, x in layer.tensors().items()}
    steps = []
    for token in torch.tensor([[1, 2], [3, 4], [5, 6]]):
        y, state = model.step(token, state)
        steps.append(y)
    return {**found, "steps": torch.stack(steps)}
