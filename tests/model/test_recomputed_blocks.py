"""Blocks that keep their input alone have the loss and the gradients of those that keep all."""

from typing import Any, get_args

import pytest
import torch
from comparison import assert_close
from recomputing import PACKED, L, assert_same
from small_models import STRIPES, gradients, small_model, tokens
from torch import Tensor, nn

from hyena.mixers.hyena import groups
from hyena.model import FilterConfig
from hyena.model.block import Block
from hyena.model.config import FilterKind

pytestmark = pytest.mark.usefixtures("short_rows_go_by_groups")


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention", "attention", "rwkv"])
@pytest.mark.parametrize("options", [{}, PACKED])
def test_loss_and_gradients_are_the_same(
    mixers: str, options: dict[str, Any], in_pieces: list[None]
) -> None:
    model = small_model(mixers)
    assert_same(model, **options)
    assert len(in_pieces) == sum(name == "hyena" for name in model.config.layer_mixers())


@pytest.mark.parametrize(
    "kind",
    [
        STRIPES,
        {"norm": "rms"},
        {"mlp": "gated"},
        {"mlp": "gated", "activation": "silu"},
        {"activation": "identity"},
    ],
)
@pytest.mark.parametrize("options", [{}, PACKED])
def test_of_other_norms_mlps_and_heads(
    kind: dict[str, Any], options: dict[str, Any], in_pieces: list[None]
) -> None:
    assert_same(small_model(**kind), **options)
    assert len(in_pieces) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_of_other_norms_mlps_and_heads_in_narrow_numbers(
    dtype: torch.dtype, in_pieces: list[None]
) -> None:
    assert_same(small_model(dtype=dtype, **STRIPES), 1e-4 if dtype == torch.float32 else 0.3)
    assert len(in_pieces) == 3


def test_parts_of_other_norms_and_mlps_that_are_not_trained(in_pieces: list[None]) -> None:
    model = small_model(**STRIPES)
    for name in ("norm1.weight", "norm2.weight", "mlp.gate.weight"):
        for block in model.blocks:
            block.get_parameter(name).requires_grad_(False)
    assert_same(model)
    assert model.head is not None
    model.head.requires_grad_(False)
    assert_same(model)
    assert len(in_pieces) == 6


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("most", [1, 5])
@pytest.mark.parametrize("filter", get_args(FilterKind))
def test_of_any_order_and_filter_and_in_any_groups(
    order: int, most: int, filter: Any, in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_PARTS", most)
    monkeypatch.setattr(groups, "MOST_GROUPS", most)
    kind = FilterConfig(kind=filter, emb_dim=5, width=6, sine_freq=3.0, modes=9)
    assert_same(small_model(order=order, filter=kind), 1e-11)
    assert len(in_pieces) == 3


@pytest.mark.parametrize(
    "options", [{"normalized": True}, {"train_encoding": True}, {"train_decay": True}]
)
def test_filters_whose_channels_share_more(options: dict[str, Any], in_pieces: list[None]) -> None:
    kind = FilterConfig(emb_dim=5, width=6, sine_freq=3.0, **options)
    assert_same(small_model(filter=kind))
    assert len(in_pieces) == 3


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_slices_of_any_size(
    rows: int, in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.model.streaming.SLICE_BYTES", rows * 8 * 12 * 8)
    assert_same(small_model())
    assert len(in_pieces) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_narrow_numbers(dtype: torch.dtype, in_pieces: list[None]) -> None:
    assert_same(small_model(dtype=dtype), 1e-4 if dtype == torch.float32 else 0.2)
    assert len(in_pieces) == 3


def test_short_rows_are_recomputed_whole(
    in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "SHORTEST", L + 1)
    model = small_model()
    assert_same(model)
    assert not in_pieces
    with torch.no_grad():
        model.eval()(tokens(2, L))
    assert all(block.mixer.filter.kept.nbytes for block in model.blocks)  # type: ignore[union-attr]


def test_parameters_that_are_not_trained(in_pieces: list[None]) -> None:
    model = small_model()
    for name in (
        "norm1.weight",
        "mixer.in_proj.bias",
        "mixer.filter.layers.0.weight",
        "mlp.up.weight",
    ):
        for block in model.blocks:
            block.get_parameter(name).requires_grad_(False)
    assert_same(model)
    model.embedding.requires_grad_(False)
    assert_same(model)
    for block in model.blocks:
        block.mixer.requires_grad_(False)
    assert_same(model)
    assert len(in_pieces) == 9


def test_parameters_of_several_layers(in_pieces: list[None]) -> None:
    model = small_model()
    first, second, _ = model.blocks
    second.mlp.up.weight = first.mlp.up.weight  # type: ignore[union-attr]
    second.norm1 = first.norm1
    second.norm2 = second.norm1
    assert_same(model)
    assert len(in_pieces) == 3


def test_hooks_on_parameters_see_their_gradients_once(in_pieces: list[None]) -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    seen: list[Tensor] = []
    weight = model.blocks[0].mixer.in_proj.weight  # type: ignore[union-attr]
    weight.register_hook(seen.append)
    loss = model(ids, targets=ids)
    loss.backward()
    assert len(seen) == 1
    assert torch.equal(seen[0], weight.grad)
    assert len(in_pieces) == 3


@pytest.mark.parametrize("name", ["", "norm1", "mixer", "mixer.in_proj", "mlp", "mlp.down"])
def test_with_a_hook_pytorch_recomputes(name: str, in_pieces: list[None]) -> None:
    model = small_model()
    calls: list[None] = []
    model.blocks[1].get_submodule(name).register_forward_hook(lambda *call: calls.append(None))
    assert_same(model)
    assert len(in_pieces) == 2
    assert len(calls) >= 2  # the recomputation stops once it has what it needs


@pytest.mark.parametrize("inside", [False, True])
def test_under_autocast(inside: bool, in_pieces: list[None]) -> None:
    """The backward pass is of the forward pass's numbers, wherever it is called."""
    model, ids = small_model(dtype=torch.float32).train(), tokens(2, L)
    found = []
    for pieces in (False, True):
        model.activation_checkpointing, model.working_memory = pieces, 0
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, targets=ids.roll(-1, 1))
        with torch.autocast("cpu", torch.float16, enabled=inside and pieces):
            loss.backward()
        found.append((loss.detach(), gradients(model)))
    (expected, wanted), (y, got) = found
    assert len(in_pieces) == 3
    assert_close(y, expected, 0.01)
    for name, gradient in got.items():
        assert_close(gradient, wanted[name], 0.1)


def test_two_calls_under_one_autocast(in_pieces: list[None]) -> None:
    """The second one finds none of the first one's narrow weights, which have no gradient."""
    model, ids = small_model(dtype=torch.float32).train(), tokens(2, L)
    found = []
    for pieces in (False, True):
        model.activation_checkpointing = pieces
        with torch.autocast("cpu", torch.bfloat16):
            model.working_memory = 0
            long = model(ids, targets=ids.roll(-1, 1))
            model.working_memory = 1 << 30
            loss = long + model(ids[:, :5], targets=ids[:, 1:6])
        loss.backward()
        found.append(gradients(model))
    wanted, got = found
    assert len(in_pieces) == 3
    for name, gradient in got.items():
        assert_close(gradient, wanted[name], 0.1)


@pytest.mark.parametrize("most", [1, 5])
def test_a_filter_that_draws_random_numbers_draws_them_again(
    most: int, in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_PARTS", most)
    monkeypatch.setattr(groups, "MOST_GROUPS", most)
    model, ids = small_model().train(), tokens(2, L)
    for block in model.blocks:
        layers = block.mixer.filter.layers  # type: ignore[union-attr]
        layers[0] = nn.Sequential(layers[0], nn.Dropout(0.5))  # type: ignore[index, operator]
    block.mixer.filter.register_forward_hook(  # type: ignore[union-attr]
        lambda module, inputs, h: h * torch.rand_like(h)
    )

    found = []
    for pieces in (False, True):
        model.activation_checkpointing, model.working_memory = pieces, 0
        torch.manual_seed(3)
        loss = model(ids, targets=ids.roll(-1, 1))
        torch.manual_seed(4)
        before = torch.get_rng_state()
        loss.backward()
        assert torch.equal(torch.get_rng_state(), before)
        found.append((loss.detach(), gradients(model)))
    (expected, wanted), (y, got) = found
    assert len(in_pieces) == 3
    assert_close(y, expected, 1e-12)
    for name, gradient in got.items():
        assert_close(gradient, wanted[name], 1e-12)


@pytest.mark.parametrize("way", ["closure", "forward", "list"])
def test_parameters_that_are_read_from_elsewhere(way: str, in_pieces: list[None]) -> None:
    model = small_model()
    for block in model.blocks:
        filter: Any = block.mixer.filter  # type: ignore[union-attr]
        first = filter.layers[0]
        if way == "closure":
            filter.register_forward_hook(lambda _, inputs, h, p=first.weight: h * p.mean())
        elif way == "forward":
            first.forward = lambda x, of=first: nn.Linear.forward(of, x).sin()
        else:
            filter.others = [first]
            filter.register_forward_hook(lambda m, inputs, h: h * m.others[0].bias.sum())
    assert_same(model)
    assert len(in_pieces) == 3


@pytest.mark.parametrize("case", ["dropout", "mask", "evaluation", "enough memory"])
def test_elsewhere_pytorch_recomputes(case: str, in_pieces: list[None]) -> None:
    model, ids = small_model(dropout=0.1 if case == "dropout" else 0.0).train(), tokens(2, L)
    model.activation_checkpointing = True
    model.working_memory = 1 << 30 if case == "enough memory" else 0
    mask = torch.arange(L) > torch.tensor([[1], [2]]) if case == "mask" else None
    model.train(case != "evaluation")
    model(ids, mask=mask).square().mean().backward()
    assert not in_pieces
    gradients(model)


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_an_mlp_of_another_kind(memory: int, in_pieces: list[None]) -> None:
    model = small_model()
    model.blocks[1].mlp = nn.Identity()
    assert_same(model, memory=memory)
    assert len(in_pieces) == (0 if memory else 2)


@pytest.mark.parametrize("frozen", [1, 2])
def test_blocks_without_gradients_are_not_taken_whole(
    frozen: int, in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    model.embedding.requires_grad_(False)
    for block in model.blocks[:frozen]:
        block.requires_grad_(False)
    seen: list[Tensor] = []
    model.blocks[0].register_forward_hook(lambda *call: seen.append(call[2].clone()))
    model.blocks[0].register_forward_hook(lambda *call: seen.append(call[2]))
    assert_same(model)
    assert torch.equal(seen[-2], seen[-1])  # what is kept outside stays as it was
    model.blocks[0]._forward_hooks.clear()
    monkeypatch.setattr(Block, "forward", lambda *call: pytest.fail("taken whole"))
    model(tokens(2, L)).sum().backward()
    assert len(in_pieces) == 2 * (3 - frozen)
    with torch.no_grad():
        model(tokens(2, L))
