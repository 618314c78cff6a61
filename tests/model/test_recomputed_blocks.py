"""Blocks that keep their input alone have the loss and the gradients of those that keep all."""

import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args
from weakref import ref

import pytest
import torch
from comparison import assert_close
from small_models import STRIPES, gradients, small_model, tokens
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.mixers.hyena import groups
from hyena.mixers.hyena.groups import Buffers
from hyena.model import FilterConfig, LanguageModel, recomputed
from hyena.model.block import Block
from hyena.model.config import FilterKind
from hyena.ops.native import library, operator

L = 23
PACKED = {"document_ids": torch.stack([torch.arange(L) // 5, torch.arange(L) // 9])}


@pytest.fixture(autouse=True)
def _short_rows_go_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SHORTEST", 1)


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with each block that goes in pieces."""
    calls: list[None] = []
    forward = recomputed.forward

    def counted(*arguments: Any) -> Tensor:
        calls.append(None)
        return forward(*arguments)

    monkeypatch.setattr(recomputed, "forward", counted)
    return calls


def loss_and_gradients(
    model: LanguageModel, loss: Callable[[], Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    y = loss()
    y.backward()
    return y.detach(), gradients(model)


def assert_same(
    model: LanguageModel, tolerance: float = 1e-12, memory: int = 0, **options: Any
) -> None:
    """That the loss in pieces and its gradients are those of the whole."""
    ids = tokens(2, L)

    def loss() -> Tensor:
        y: Tensor = model(ids, targets=ids.roll(-1, 1), **options)
        return y

    model.train().activation_checkpointing = False
    expected, wanted = loss_and_gradients(model, loss)
    model.activation_checkpointing, model.working_memory = True, memory
    y, found = loss_and_gradients(model, loss)
    assert_close(y, expected, tolerance)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        try:
            assert_close(gradient, wanted[name], tolerance)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


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
    monkeypatch.setattr(groups, "MOST_GROUPS", 5)
    model = small_model(order=2, dtype=dtype)
    assert_same(model, 1e-4 if dtype == torch.float32 else 0.2, **options)
    assert len(in_pieces) == 3
    assert len(calls) == 3 * len(groups.groups_of(model.blocks[0].mixer, 2, L, 0, dtype, "direct"))  # type: ignore[arg-type]
    for name in ("short_conv.weight", "filter.skip", "filter.layers.0.weight"):
        for block in model.blocks:
            block.mixer.get_parameter(name).requires_grad_(False)  # type: ignore[union-attr]
    assert_same(model, 1e-4 if dtype == torch.float32 else 0.2, **options)


def test_gradients_of_a_group_are_gone_before_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alive: list[Any] = []
    of_group, projected = recomputed._backward_of_group, groups.Group.projected

    def first(*given: Any) -> Tensor:
        assert not any(x() is not None for x in alive)
        return projected(*given)

    def then(*given: Any) -> Tensor:
        _, _, kernels, *_ = given
        dz = of_group(*given)
        alive.extend(map(ref, (dz, kernels[0][0])))
        return dz

    monkeypatch.setattr(groups.Group, "projected", first)
    monkeypatch.setattr(recomputed, "_backward_of_group", then)
    model, ids = small_model(order=2, dtype=torch.float32).train(), tokens(2, L)
    model.activation_checkpointing, model.working_memory = True, 0
    model(ids, targets=ids).backward()
    assert len(alive) >= 2 * 3 * 6


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


def test_threads_that_train_one_model_together(in_pieces: list[None]) -> None:
    """Each starts its backward pass while the others are in theirs."""
    model, threads, times = small_model().train(), 3, 4
    each = [tokens(2, L).roll(n, 0).roll(n, 1) for n in range(threads)]
    for ids in each:
        model(ids, targets=ids).backward()
    wanted = {name: times * x for name, x in gradients(model).items()}
    model.activation_checkpointing, model.working_memory = True, 0
    before, together = dict(model.named_parameters()), threading.Barrier(threads)

    def train(ids: Tensor) -> None:
        for _ in range(times):
            loss = model(ids, targets=ids)
            together.wait(20)
            loss.backward()

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(train, each))
    finally:
        sys.setswitchinterval(switched)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    assert len(in_pieces) == 3 * threads * times
    for name, gradient in gradients(model).items():
        assert_close(gradient, wanted[name], 1e-12)


def test_threads_that_go_back_through_one_graph(in_pieces: list[None]) -> None:
    model, ids, threads, times = small_model(width=64).train(), tokens(2, L), 2, 5
    model.activation_checkpointing, model.working_memory = True, 0
    loss = model(ids, targets=ids)
    loss.backward(retain_graph=True)
    wanted = {name: threads * times * x for name, x in gradients(model).items()}
    together = threading.Barrier(threads)

    def go_back(_: int) -> None:
        for _ in range(times):
            together.wait(20)
            loss.backward(retain_graph=True)

    switched = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(go_back, range(threads)))
    finally:
        sys.setswitchinterval(switched)
    assert len(in_pieces) == 3
    for name, gradient in gradients(model).items():
        assert_close(gradient, wanted[name], 1e-12)


def test_no_other_thread_sees_the_parameters_of_a_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = small_model().train(), tokens(1, L)
    model.activation_checkpointing, model.working_memory = True, 0
    before = list(model.parameters())
    loss, of_mlp, seen = model(ids, targets=ids), recomputed._backward_of_mlp, []

    def looked_at(*given: Any) -> Tensor:
        seen.append(all(a is b for a, b in zip(model.parameters(), before, strict=True)))
        return of_mlp(*given)

    monkeypatch.setattr(recomputed, "_backward_of_mlp", looked_at)
    loss.backward()
    assert seen == [True] * 3


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


def test_data_parallel_training_gets_the_gradients(in_pieces: list[None]) -> None:
    model, ids = small_model().train(), tokens(2, L)
    _, wanted = loss_and_gradients(model, lambda: model(ids, targets=ids))
    model.activation_checkpointing, model.working_memory = True, 0
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        for _ in range(2):  # the second one is refused if not every gradient came in the first
            _, found = loss_and_gradients(model, lambda: parallel(ids, targets=ids))
            for name, gradient in found.items():
                assert_close(gradient, wanted[name], 1e-12)
    finally:
        torch.distributed.destroy_process_group()
    assert len(in_pieces) == 6
