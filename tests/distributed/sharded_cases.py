"""What each rank does for `test_sharded`."""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import numpy as np
import torch
from cut_models import (
    PROMPTS,
    SHARED,
    Case,
    Found,
    given,
    inputs_of,
    model_of,
    prompt_and_steps,
)
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor

import hyena
from hyena import LanguageModel, score
from hyena.data import BytesTokenizer
from hyena.distributed import save, shard
from hyena.evaluation import evaluate
from hyena.model.hidden import hidden
from hyena.scoring import embed

TRAINED = [
    "order 3",
    "order 3, recomputed",
    "modal",
    "few taps",
    "striped",
    "hybrid",
    "no tied head",
]
CUT = ["order 3", "order 3, recomputed", "few taps", "hybrid"]


def sharded(case: Case, **options: Any) -> LanguageModel:
    return shard(model_of(case), init_device_mesh("cpu", (dist.get_world_size(),)), **options)


def gradients(model: LanguageModel) -> Found:
    """Whole ones; every parameter is in parts."""
    found = {}
    for name, parameter in model.named_parameters():
        assert isinstance(parameter, DTensor), name
        gradient = parameter.grad
        assert isinstance(gradient, DTensor), name
        found[name] = gradient.full_tensor()
    return found


def rows_of(case: Case) -> dict[str, Tensor]:
    """The rows of this rank, of a batch that has one for each."""
    rank = dist.get_rank()
    return {n: x[rank : rank + 1] for n, x in inputs_of(case, dist.get_world_size()).items()}


def trained(name: str, **options: Any) -> Found:
    """Of rows that each rank has for itself; twice, since the second pass finds what is left of the
    first."""
    model = sharded(SHARED[name], **options)
    for _ in range(2):
        model.zero_grad()
        loss = model(**rows_of(SHARED[name]))
        loss.backward()
    return {"loss": loss.detach(), **gradients(model)}


def cut_and_trained(name: str) -> Found:
    """Of rows that the ranks share, each with a part of the parameters."""
    model = sharded(SHARED[name])
    loss = model(**given(SHARED[name], cut=True))
    loss.backward()
    return {"loss": loss.detach(), **gradients(model)}


def prompt(name: str, cut: bool) -> Found:
    """The same prompt on every rank, or its pieces."""
    return prompt_and_steps(PROMPTS[name], cut, sharded(PROMPTS[name].case))


BYTES = Case("hyena,attention", changes={"vocab_size": 257})
TEXTS = ["abra", "kadabra"]


def used(model: LanguageModel) -> dict[str, Any]:
    """What the functions that take a model find."""
    tokens = np.frombuffer(b"\0a sharded model\0", dtype=np.uint8).astype(np.int64)
    tokenizer = BytesTokenizer()
    return {
        "generated": [g.tokens for g in model.generate([[1, 2, 3], [4, 5]], max_new_tokens=6)],
        "evaluated": evaluate(model, [(tokens, 15)], length=8, stride=4).loss_nats_per_token,
        "scored": [s.score for s in score(model, tokenizer, TEXTS)],
        "embedded": [torch.from_numpy(e.vectors) for e in embed(model, tokenizer, TEXTS)],
        "after a block": hidden(model, torch.tensor([[1, 2, 3]]), 0),
    }


def saved() -> bool:
    """Whether a model that was saved in parts is the one that it was made of."""
    case = SHARED["hybrid"]
    with tempfile.TemporaryDirectory() as folder:
        save(sharded(case), folder)
        if dist.get_rank() > 0:
            return True
        read, wanted = hyena.load(folder).state_dict(), model_of(case).state_dict()
        same = all(torch.equal(read[name], x) for name, x in wanted.items())
        return same and read.keys() == wanted.keys()


def saved_by_the_model() -> None:
    with tempfile.TemporaryDirectory() as folder:
        sharded(SHARED["order 3"]).save(folder)


def narrow() -> dict[str, Any]:
    """Whole parameters of 16 bits, gradients summed and kept in 32."""
    case = SHARED["hybrid"]
    precision = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = shard(model_of(case, torch.float32), mesh, precision=precision)
    loss = model(**rows_of(case))
    loss.backward()
    found = gradients(model)
    return {"loss": loss.detach(), "dtypes": sorted({str(x.dtype) for x in found.values()})}


CASES: dict[str, Any] = {
    **{name: partial(trained, name) for name in TRAINED},
    **{f"cut {name}": partial(cut_and_trained, name) for name in CUT},
    "kept whole": partial(trained, "order 3", reshard_after_forward=False),
    **{f"prompt {name}": partial(prompt, name, False) for name in PROMPTS},
    "cut prompt planned": partial(prompt, "planned", True),
    "used": lambda: used(sharded(BYTES)),
    "narrow": narrow,
    "saved": saved,
    "saved by the model": saved_by_the_model,
}
