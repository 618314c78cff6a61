"""What each rank does for `test_context_parallel`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from cut_models import (
    PROMPTS,
    SHARED,
    VOCABULARY,
    Case,
    Found,
    context,
    given,
    in_each_precision,
    loss_and_gradients,
    model_of,
    prompt_and_steps,
    short_rows_go_by_groups,
)
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from hyena.distributed import ContextParallel
from hyena.distributed.exchange import all_channels, positions, to_channels, to_positions, whole
from hyena.distributed.halo import with_halo
from hyena.distributed.operators import Between
from hyena.distributed.rows import Rows
from hyena.mixers.hyena.groups import Group, filter_of
from hyena.model import FilterConfig
from hyena.ops import Segments


class Sent(TorchDispatchMode):
    """Counts the bytes that this rank sends to others, as the collectives are told them."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.others = 0, set[str]()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(op) == "_c10d_functional.all_to_all_single.default":
            sizes = list(args[2])
            del sizes[dist.get_rank()]
            self.bytes += sum(sizes) * args[0].itemsize
        elif op.namespace in ("c10d", "_c10d_functional") and "wait" not in str(op):
            self.others.add(str(op).removesuffix(".default"))
        return op(*args, **(kwargs or {}))


@torch.no_grad()
def bytes_sent(order: int) -> dict[str, Any]:
    """Per token of a rank and layer, of a forward pass of two rows and two layers in float32."""
    length = 512 * dist.get_world_size()
    case = Case("hyena,hyena", length, {"order": order, "max_length": length})
    model = model_of(case, torch.float32)
    inputs = given(case, cut=True)
    del inputs["targets"]
    with Sent() as sent:
        model(**inputs)
    return {"bytes": sent.bytes / (2 * 2 * 512), "others": sorted(sent.others)}


def token_losses() -> Tensor:
    case = SHARED["order 3"]
    return model_of(case).eval().token_losses(**given(case, cut=True))


IN_GROUPS = {  # and their blocks that go so
    "order 2": 1,
    "order 3": 1,
    "modal": 1,
    "few taps": 1,
    "striped": 3,
    "hybrid": 1,
    "documents": 1,
    "normalised filters": 1,
}


def in_groups(name: str) -> Found:
    """Blocks that go back by groups of channels."""
    case = replace(SHARED[name], recomputed=True, in_groups=True)
    with short_rows_go_by_groups() as calls:
        found = loss_and_gradients(case, torch.float64, cut=True)
    return {**found, "calls": torch.tensor(len(calls))}


@torch.no_grad()
def read_in_groups() -> dict[str, Any]:
    """Logits of padded rows, without gradients."""
    case = replace(SHARED["padding"], in_groups=True)
    inputs = given(case, cut=True)
    del inputs["targets"]
    with short_rows_go_by_groups() as calls:
        return {"logits": model_of(case).eval()(**inputs), "calls": len(calls)}


def some_channels() -> dict[str, bool]:
    """Whether what lies between the projections is that of the whole rows, for ranges of channels,
    of which there may be fewer than ranks."""
    op: Any = model_of(SHARED["order 3"]).blocks[0].mixer
    generator = torch.Generator().manual_seed(4)
    z = torch.randn(2, 4, op.width, 23, generator=generator, dtype=torch.float64)
    here = context()
    lengths = [len(part) for part in torch.arange(23).tensor_split(here.processes)]
    rows, found = Rows(here.group, here.rank, lengths), {}
    between = Between(op, None, rows)
    for channels in (slice(0, 1), slice(1, 12), slice(2, 11, 3)):
        group, some = Group(op, channels), z[:, :, channels].flatten(1, 2)
        kernels = list(zip(filter_of(op, 23, None).taps(channels), group.skip, strict=True))
        expected = op.between(some, group.short, kernels, None)[..., rows.start : rows.stop]
        got = between.between(some[..., rows.start : rows.stop], group.short, channels)
        found[str(channels)] = torch.allclose(got, expected, rtol=1e-12, atol=1e-12)
    return found


def data_parallel() -> Found:
    """The engine's own mean of the gradients."""
    case = SHARED["order 2"]
    model = model_of(case)
    parallel = DistributedDataParallel(model)
    parallel(**given(case, cut=True)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def whole_rows(lengths: list[int]) -> tuple[Tensor, Rows]:
    """Rows (2, 5, L) that every rank knows, cut into pieces of these lengths."""
    here = context()
    rows = Rows(here.group, here.rank, lengths)
    x = torch.randn(2, 5, rows.length, generator=torch.Generator().manual_seed(3))
    return x.double(), rows


def exchanged() -> dict[str, bool]:
    """Whether each exchange gives what it says, of pieces of one position and of none."""
    found = {}
    for lengths in ([4, 1, 3, 2], [0, 3, 0, 1], [2, 0, 4, 0]):
        x, rows = whole_rows(lengths[: dist.get_world_size()])
        own, channels = x[..., rows.start : rows.stop], rows.channels(5)[rows.rank]
        halo, before, _ = with_halo(own, rows, 3)
        wanted = [(0, min(2, rows.length))] * rows.processes
        found |= {
            f"channels {lengths}": torch.equal(to_channels(own, rows), x[:, channels]),
            f"positions {lengths}": torch.equal(to_positions(x[:, channels], rows, 5), own),
            f"all channels {lengths}": torch.equal(all_channels(x[:, channels], rows, 5), x),
            f"whole {lengths}": torch.equal(whole(own, rows), x),
            f"some {lengths}": torch.equal(positions(own, rows, wanted), x[..., :2]),
            f"halo {lengths}": torch.equal(halo, x[..., max(rows.start - 3, 0) : rows.stop]),
            f"before {lengths}": before == min(rows.start, 3),
        }
    return found


def twice_differentiable() -> dict[str, bool]:
    """The gradient of Σ (channels of x)³ / 3 is x², and its own is 2x."""
    x, rows = whole_rows([3] * dist.get_world_size())
    own = x[..., rows.start : rows.stop].clone().requires_grad_()
    (once,) = torch.autograd.grad((to_channels(own, rows) ** 3).sum() / 3, own, create_graph=True)
    (twice,) = torch.autograd.grad(once.sum(), own)
    return {
        "once": torch.allclose(once, own**2, rtol=1e-14),
        "twice": torch.allclose(twice, 2 * own, rtol=1e-14),
    }


def disagreeing() -> None:
    case = SHARED["order 2"]
    inputs = given(case, cut=True)
    if inputs["context"].rank == 0:
        del inputs["targets"]
    model_of(case)(**inputs)


def of_other_settings() -> None:
    model = model_of(SHARED["order 2"])
    model.working_memory = dist.get_rank()
    model(**given(SHARED["order 2"], cut=True))


def with_a_wrong_token() -> None:
    """On the last rank."""
    inputs = given(SHARED["order 2"], cut=True)
    if inputs["context"].rank == dist.get_world_size() - 1:
        inputs["input_ids"][0, 0] = VOCABULARY
    model_of(SHARED["order 2"])(**inputs)


def with_a_gap() -> None:
    """Each piece is padded at one end alone."""
    inputs = given(SHARED["order 2"], cut=True)
    mask = torch.ones_like(inputs["input_ids"], dtype=torch.bool)
    if inputs["context"].rank == 0:
        mask[:, -2:] = False
    model_of(SHARED["order 2"])(**inputs, mask=mask)


def with_segments() -> None:
    inputs = given(SHARED["documents"], cut=True)
    inputs["document_ids"] = Segments.from_document_ids(inputs["document_ids"])
    model_of(SHARED["documents"])(**inputs)


def beside_a_state() -> None:
    case = SHARED["order 2"]
    model, ids = model_of(case).eval(), torch.ones(2, 3, dtype=torch.int64)
    with torch.no_grad():
        _, state = model.prefill(ids)
        model.prefill(ids, state=state, context=context())


def too_long() -> None:
    case = Case(length=60)
    model_of(case)(**given(case, cut=True))


def too_short() -> None:
    case = Case(length=dist.get_world_size() - 1)
    model_of(case)(**given(case, cut=True))


def along_others() -> None:
    case = Case("hyena,rwkv")
    model_of(case)(**given(case, cut=True))


def of_few_channels() -> None:
    width = dist.get_world_size() - 1
    case = Case(changes={"width": width, "filter": FilterConfig(emb_dim=3, width=2)})
    model_of(case)(**given(case, cut=True))


def on_two_dimensions() -> None:
    names = ("data", "context")
    ContextParallel(init_device_mesh("cpu", (dist.get_world_size(), 1), mesh_dim_names=names))


CASES: dict[str, Any] = {
    **{name: in_each_precision(case) for name, case in SHARED.items()},
    **{f"prompt {n}": partial(prompt_and_steps, prompt, True) for n, prompt in PROMPTS.items()},
    **{f"bytes {order}": partial(bytes_sent, order) for order in (2, 3)},
    **{f"in groups {name}": partial(in_groups, name) for name in IN_GROUPS},
    "read in groups": read_in_groups,
    "some channels": some_channels,
    "token_losses": token_losses,
    "data_parallel": data_parallel,
    "exchanged": exchanged,
    "twice": twice_differentiable,
    "disagreeing": disagreeing,
    "settings": of_other_settings,
    "wrong token": with_a_wrong_token,
    "gap": with_a_gap,
    "segments": with_segments,
    "state": beside_a_state,
    "too long": too_long,
    "too short": too_short,
    "others": along_others,
    "few channels": of_few_channels,
    "two dimensions": on_two_dimensions,
}
