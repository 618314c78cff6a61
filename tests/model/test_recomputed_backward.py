"""The backward pass of blocks that keep their input alone: what it computes and holds, and what it
refuses."""

import re
from typing import Any
from weakref import ref

import pytest
import torch
from comparison import assert_close
from recomputing import PACKED, L, assert_same
from small_models import gradients, small_model, tokens
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.mixers.hyena import groups
from hyena.mixers.hyena.groups import Buffers
from hyena.model import recomputed
from hyena.ops.native import library, operator

pytestmark = pytest.mark.usefixtures("short_rows_go_by_groups")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, PACKED])
def test_one_convolution_goes_back_without_going_forward(
    dtype: torch.dtype,
    options: dict[str, Any],
    in_pieces: list[None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if library.kernel() is None:
        pytest.skip(library.why_not())
    calls: list[None] = []
    gradients_of = operator.gradients

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(None)
        return gradients_of(*given, **more)

    monkeypatch.setattr(operator, "gradients", counted)
    monkeypatch.setattr(groups, "MOST_PARTS", 5)
    model = small_model(order=2, dtype=dtype)
    assert_same(model, 1e-4 if dtype == torch.float32 else 0.2, **options)
    assert len(in_pieces) == 3
    assert len(calls) == 3 * len(groups.groups_of(model.blocks[0].mixer, 2, L, 0, dtype))  # type: ignore[arg-type]
    for name in ("short_conv.weight", "filter.skip", "filter.layers.0.weight"):
        for block in model.blocks:
            block.mixer.get_parameter(name).requires_grad_(False)  # type: ignore[union-attr]
    assert_same(model, 1e-4 if dtype == torch.float32 else 0.2, **options)


def test_gradients_of_a_group_are_gone_before_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: list[Any] = []
    of_group, project = recomputed._backward_of_group, recomputed.project

    def first(*given: Any) -> None:
        assert not any(x() is not None for x in alive)
        project(*given)

    def then(*given: Any) -> Tensor:
        _, _, kernels, *_ = given
        dz = of_group(*given)
        alive.extend(map(ref, (dz, kernels[0][0])))
        return dz

    monkeypatch.setattr(recomputed, "project", first)
    monkeypatch.setattr(recomputed, "_backward_of_group", then)
    model, ids = small_model(order=2, dtype=torch.float32).train(), tokens(2, L)
    model.activation_checkpointing, model.working_memory = True, 0
    model(ids, targets=ids).backward()
    assert len(alive) >= 2 * 3 * 6


def test_a_graph_goes_back_twice_and_keeps_no_buffers(
    in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Buffers] = []

    class Seen(Buffers):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("hyena.model.language_model.Buffers", Seen)
    model, ids = small_model().train(), tokens(2, L)
    model.activation_checkpointing, model.working_memory = True, 0
    loss = model(ids, targets=ids)
    loss.backward(retain_graph=True)
    (buffers,) = made
    assert not buffers._of
    once = {name: gradient.clone() for name, gradient in gradients(model).items()}
    loss.backward()
    for name, gradient in gradients(model).items():
        assert_close(gradient, once[name], 1e-12)


def test_only_gradients_that_the_forward_pass_recorded(
    in_pieces: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model()
    for part in (model.embedding, model.blocks[0].norm1, model.blocks[1].mlp):
        part.requires_grad_(False)  # type: ignore[operator]
    assert_same(model)
    loss, counts = model(tokens(2, L)).square().mean(), []
    model.requires_grad_(True)
    found = recomputed._Sums.found

    def counted(sums: Any) -> list[Tensor | None]:
        of_all = found(sums)
        counts.append(sum(x is not None for x in of_all))
        return of_all

    monkeypatch.setattr(recomputed._Sums, "found", counted)
    loss.backward()
    all_of_block = len(list(model.blocks[2].parameters()))
    assert counts == [all_of_block, all_of_block - 4, all_of_block - 2]


def test_buffers_are_of_one_device_and_dtype() -> None:
    buffers, like = Buffers(), torch.zeros(1)
    first = buffers.take("x", (3, 4), like)
    assert buffers.take("x", (2, 4), like).data_ptr() == first.data_ptr()
    assert buffers.take("x", (2, 4), like.double()).dtype == torch.float64
    assert buffers.take("x", (2, 4), torch.zeros(1, device="meta")).is_meta


def test_what_a_hook_on_saved_tensors_packs_is_one_residual_a_block() -> None:
    model, ids = small_model().train(), tokens(2, L)
    model.activation_checkpointing, model.working_memory = True, 0
    packed: list[Tensor] = []

    def pack(x: Tensor) -> Tensor:
        if x.dim() == 3 and not isinstance(x, nn.Parameter):
            packed.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        model(ids)
    assert len([x for x in packed if x.shape == (2, L, 12)]) <= len(model.blocks) + 2


@pytest.mark.parametrize("linear", [False, True])
def test_a_gradient_of_a_gradient_is_refused_in_one_line(linear: bool) -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    weight = model.blocks[0].norm1.weight
    y = model(ids)
    (d,) = torch.autograd.grad(y.mean() if linear else y.square().mean(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match=r"set model\.activation_checkpointing = False bef"):
        d.sum().backward()


@pytest.mark.parametrize("part", ["mlp.up.bias", "mixer.filter.layers.0"])
def test_a_block_without_a_part_that_it_had_is_one_line(part: str) -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    loss = model(ids).square().mean()
    path, _, last = part.rpartition(".")
    setattr(model.blocks[1].get_submodule(path), last, None)
    line = f"LanguageModel: a block was changed between forward and backward: its part {part} was"
    with pytest.raises(RuntimeError, match=f"^{re.escape(line)} added, removed or replaced; "):
        loss.backward()


def test_a_block_with_a_part_of_another_kind_is_one_line() -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    loss = model(ids).square().mean()
    model.blocks[1].mlp = nn.Identity()
    with pytest.raises(RuntimeError, match=r"its part mlp was added, removed or replaced; "):
        loss.backward()


def test_parameters_changed_before_the_backward_pass_are_noticed() -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    loss = model(ids).square().mean()
    with torch.no_grad():
        model.blocks[0].mlp.up.weight.mul_(2)  # type: ignore[union-attr, operator]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_an_error_in_the_backward_pass_leaves_the_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    before = list(model.parameters())
    loss = model(ids).square().mean()
    monkeypatch.setattr(F, "gelu", lambda *a, **b: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loss.backward()
    after = list(model.parameters())
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert all(isinstance(p, nn.Parameter) for p in after)
