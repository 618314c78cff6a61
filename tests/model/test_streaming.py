"""Blocks that run in pieces in the memory of the residual stream give what they give whole."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, get_args

import pytest
import torch
from comparison import assert_close
from small_models import STRIPES, LowRank, small_model, tokens
from torch import Tensor, nn

from hyena.mixers import SPECS, HyenaOperator
from hyena.mixers.hyena import groups
from hyena.model import FilterConfig, LanguageModel, streaming
from hyena.model.block import Block
from hyena.model.config import FilterKind
from hyena.model.mlp import MLP, GatedMLP
from hyena.model.norm import RMSNorm

pytestmark = pytest.mark.usefixtures("pieces")

L = 23  # odd, and no slice divides it
WHOLE = 1 << 40
POSITION = 4 * 12 * 8  # bytes that one makes of a width of 12, in float64
PIECE = 5  # positions of the smallest pieces

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding on the left": {"mask": torch.arange(L) >= torch.tensor([[0], [5]])},
    "padding on the right": {"mask": torch.arange(L) < torch.tensor([[4], [L]])},
    "documents": {"document_ids": torch.stack([torch.arange(L) // 5, torch.arange(L) // 9])},
}


@pytest.fixture(autouse=True)
def _short_rows_go_by_groups_and_in_several_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SHORTEST", 1)
    monkeypatch.setattr(streaming, "LEAST_SLICE_BYTES", PIECE * POSITION)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where a block or a Hyena operator takes its input whole."""
    monkeypatch.setattr(Block, "forward", taken_whole(Block.forward))
    monkeypatch.setattr(Block, "prefill", taken_whole(Block.prefill))
    monkeypatch.setattr(HyenaOperator, "_mix", taken_whole(HyenaOperator._mix))
    yield
    ALLOWED[0] = False


ALLOWED = [False]


def taken_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(*arguments: Any, **options: Any) -> Any:
        assert ALLOWED[0], "taken whole"
        return function(*arguments, **options)

    return wrapper


def whole(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What it gives on the way that short inputs take."""
    model: Any = function if isinstance(function, nn.Module) else function.__self__
    model.working_memory = WHOLE
    ALLOWED[0] = True
    try:
        return function(*arguments, **options)
    finally:
        ALLOWED[0] = False


@pytest.mark.parametrize("mixer", SPECS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory", [0, 8 * POSITION, 2 * L * POSITION - 1])
@torch.no_grad()
def test_logits_are_those_of_the_whole(mixer: str, case: str, memory: int) -> None:
    model, ids = small_model(mixer), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    model.working_memory = memory
    y = model(ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("most", [1, 5])  # groups, of 12 channels
@pytest.mark.parametrize("filter", get_args(FilterKind))
@torch.no_grad()
def test_of_any_order_and_filter_and_in_any_groups(
    order: int, case: str, most: int, filter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", most)
    kind = FilterConfig(kind=filter, emb_dim=5, width=6, sine_freq=3.0, modes=9)
    model, ids = small_model(order=order, filter=kind), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    model.working_memory = 0
    y = model(ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("backend", ["auto", "torch", "naive"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", [2, 3])
@torch.no_grad()
def test_in_narrow_numbers(dtype: torch.dtype, case: str, order: int, backend: str) -> None:
    model, ids = small_model(dtype=dtype, order=order), tokens(2, L)
    for block in model.blocks:
        block.mixer.backend = backend  # type: ignore[union-attr]
    expected = whole(model, ids, **CASES[case])
    model.working_memory = 0
    y = model(ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    assert_close(y[real], expected[real], 1e-5 if dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("one", [True, False])
@torch.no_grad()
def test_spectra_are_kept_of_an_operator_in_one_group(one: bool) -> None:
    model, ids = small_model(mlp_width=200), tokens(2, L)
    op: Any = model.blocks[0].mixer
    each = groups.bytes_of_channel(op, 2, L, torch.float64, "direct")
    model.working_memory = each * (12 if one else 11)
    model(ids)
    assert (op.filter.kept.nbytes > 0) is one


PADDING = torch.arange(L) >= torch.tensor([[0], [5]])


@pytest.mark.parametrize("mixer", SPECS)
@pytest.mark.parametrize("future", [None, 0, 4])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mask", [None, PADDING])
@torch.no_grad()
def test_a_prefill_leaves_the_state_of_the_whole(
    mixer: str, future: int | None, keep: bool, mask: Tensor | None
) -> None:
    model, ids = small_model(mixer, max_length=40), tokens(2, L)
    options = {"future": future, "keep_inputs": keep, "mask": mask}
    wanted, expected = whole(model.prefill, ids, **options)
    model.working_memory = 0
    y, state = model.prefill(ids, **options)
    real = torch.ones(2, L, dtype=torch.bool) if mask is None else mask
    assert_close(y[real], wanted[real], 1e-12)
    for token in tokens(4, 2)[: 4 if future != 0 or keep else 0]:
        y, state = model.step(token, state)
        wanted, expected = model.step(token, expected)
        assert_close(y, wanted, 1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("short_width", [1, 2, 5, 30])
@torch.no_grad()
def test_a_state_of_any_order_and_short_convolution(order: int, short_width: int) -> None:
    model = small_model(order=order, short_width=short_width, max_length=40)
    ids = tokens(1, L)
    wanted, expected = whole(model.prefill, ids, future=3, last_only=True)
    model.working_memory = 0
    y, state = model.prefill(ids, future=3, last_only=True)
    assert_close(y, wanted, 1e-12)
    for token in tokens(3, 1):
        y, state = model.step(token, state)
        wanted, expected = model.step(token, expected)
        assert_close(y, wanted, 1e-12)


@pytest.mark.parametrize("keep", [False, True])
def test_inputs_that_are_kept_are_not_copied_again(
    keep: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ids = small_model(order=3, max_length=40), tokens(2, L)
    options: dict[str, Any] = {"future": 2, "keep_inputs": True} if keep else {}
    with torch.no_grad():
        _, expected = whole(model.prefill, ids, **options)
    model.working_memory = 0
    cat = torch.cat

    def seen(parts: Any, *arguments: Any, **named: Any) -> Tensor:
        y = cat(parts, *arguments, **named)
        assert y.shape[-1] < L, "copied"
        return y

    with torch.inference_mode():
        monkeypatch.setattr(torch, "cat", seen)
        _, state = model.prefill(ids, **options)
        monkeypatch.setattr(torch, "cat", cat)
    with torch.no_grad():  # tensors of inference mode could not be written to
        for token in tokens(4, 2):
            y, state = model.step(token, state)
            wanted, expected = model.step(token, expected)
            assert_close(y, wanted, 1e-12)


@pytest.mark.parametrize("mixer", SPECS)
@torch.no_grad()
def test_a_prefill_goes_on_from_a_state(mixer: str) -> None:
    model, ids = small_model(mixer, max_length=40), tokens(2, L)
    wanted = whole(model, ids)
    model.working_memory = 0
    first, state = model.prefill(ids[:, :9])
    ALLOWED[0] = True  # where there is a state before, mixers take their input whole
    second, _ = model.prefill(ids[:, 9:], state=state)
    assert_close(torch.cat([first, second], 1), wanted, 1e-12)


@torch.no_grad()
def test_losses_are_those_of_the_whole() -> None:
    model, ids = small_model(), tokens(2, L)
    logits, targets = whole(model, ids), ids.roll(-1, 1)
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    model.working_memory = 8 * POSITION
    assert_close(model.token_losses(ids, targets), expected, 1e-12)
    assert_close(model(ids, targets=targets), expected.mean(), 1e-12)


OTHERS: dict[str, dict[str, Any]] = {
    "striped": STRIPES,
    "norms": {"norm": "rms"},
    "gated": {"mlp": "gated", "activation": "silu"},
    "exact": {"activation": "gelu"},
}


@pytest.mark.parametrize("options", OTHERS)
@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory", [0, 8 * POSITION])
@torch.no_grad()
def test_of_other_norms_and_mlps(mixers: str, options: str, case: str, memory: int) -> None:
    model, ids = small_model(mixers, **OTHERS[options]), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    model.working_memory = memory
    y = model(ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("mask", [None, PADDING])
@torch.no_grad()
def test_a_prefill_of_other_norms_and_mlps(mask: Tensor | None) -> None:
    model, ids = small_model("hyena,attention", max_length=40, **STRIPES), tokens(2, L)
    wanted, expected = whole(model.prefill, ids, mask=mask)
    model.working_memory = 0
    y, state = model.prefill(ids, mask=mask)
    real = torch.ones(2, L, dtype=torch.bool) if mask is None else mask
    assert_close(y[real], wanted[real], 1e-12)
    for token in tokens(4, 2):
        y, state = model.step(token, state)
        wanted, expected = model.step(token, expected)
        assert_close(y, wanted, 1e-12)


@torch.no_grad()
def test_losses_of_a_head_of_its_own() -> None:
    model, ids = small_model(**STRIPES), tokens(2, L)
    logits, targets = whole(model, ids), ids.roll(-1, 1)
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    model.working_memory = 8 * POSITION
    assert_close(model.token_losses(ids, targets), expected, 1e-12)


@torch.no_grad()
def test_the_stream_that_comes_in_is_not_written_to_by_a_norm() -> None:
    norm = RMSNorm(12, dtype=torch.float64)
    x = torch.randn(2, L, 12, dtype=torch.float64)
    before = x.clone()
    streaming.normalize(norm, x[:, 3:9], norm)
    assert torch.equal(x, before)


@torch.no_grad()
def test_pieces_of_a_gated_mlp_have_three_arrays_of_hidden_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, ids = small_model(layers=1, mlp_width=20, mlp="gated"), tokens(2, L)
    (block,) = model.blocks
    each = streaming.bytes_of_position(block, 12, torch.float64)  # type: ignore[arg-type]
    assert each == 3 * 20 * 8
    sizes: list[int] = []
    forward = GatedMLP.forward

    def of_mlp(self: GatedMLP, x: Tensor) -> Tensor:
        sizes.append(x.shape[0] * x.shape[1])
        return forward(self, x)

    monkeypatch.setattr(GatedMLP, "forward", of_mlp)
    monkeypatch.setattr(streaming, "LEAST_SLICE_BYTES", each)
    model.working_memory = 7 * each
    model(ids)
    assert sum(sizes) == 2 * L
    assert 7 >= max(sizes) >= 4


def test_with_gradients_blocks_run_whole() -> None:
    model, ids = small_model(), tokens(1, L)
    model.working_memory = 0
    with pytest.raises(AssertionError):
        model(ids)
    with torch.no_grad():
        model(ids)
    model.requires_grad_(False)
    model(ids)


def test_with_dropout_blocks_run_whole() -> None:
    model, ids = small_model(dropout=0.5), tokens(1, L)
    model.working_memory = 0
    with torch.no_grad():
        model(ids)
        with pytest.raises(AssertionError):
            model.train()(ids)


@pytest.mark.parametrize("name", ["", "norm1", "mixer", "mixer.in_proj", "norm2", "mlp", "mlp.up"])
@torch.no_grad()
def test_a_hook_sees_the_whole_input_and_it_stays_what_it_was(name: str) -> None:
    model, ids = small_model(), tokens(2, L)
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        seen.extend(x for x in (*inputs, output) if isinstance(x, Tensor))

    for block in model.blocks:
        block.get_submodule(name).register_forward_hook(keep)
    expected = whole(model, ids)
    before = [x.clone() for x in seen]
    seen.clear()
    model.working_memory = 0
    ALLOWED[0] = True
    assert_close(model(ids), expected, 1e-12)
    ALLOWED[0] = False
    assert len(seen) == len(before)
    for x, y in zip(seen, before, strict=True):
        assert_close(x, y, 1e-12)


@torch.no_grad()
def test_a_hook_on_the_second_block_keeps_what_the_first_one_gave() -> None:
    model, ids = small_model(), tokens(1, L)
    seen: list[Tensor] = []
    model.embedding.register_forward_hook(lambda *call: seen.append(call[2]))
    model.blocks[1].register_forward_hook(lambda *call: seen.extend([call[1][0], call[2]]))
    whole(model, ids)
    model.working_memory = 0
    ALLOWED[0] = True
    model(ids)
    ALLOWED[0] = False
    for x, y in zip(seen[:3], seen[3:], strict=True):
        assert_close(x, y, 1e-12)


@torch.no_grad()
def test_layers_with_adapters() -> None:
    model, ids = small_model(), tokens(1, L)
    model.embedding = LowRank(model.embedding)  # type: ignore[assignment]
    block: Any = model.blocks[1]
    block.mlp.up = nn.Sequential(block.mlp.up)
    block.mixer.in_proj = nn.Sequential(block.mixer.in_proj)
    torch.nn.utils.parametrizations.weight_norm(block.mlp.down)
    expected = whole(model, ids)
    model.working_memory = 0
    ALLOWED[0] = True  # of the mixer with an adapter
    assert_close(model(ids), expected, 1e-12)


@pytest.mark.parametrize("mlp", [nn.Identity(), nn.GELU()])
@torch.no_grad()
def test_an_mlp_of_another_kind(mlp: nn.Module) -> None:
    model, ids = small_model(max_length=40), tokens(2, L)
    model.blocks[1].mlp = mlp
    wanted, expected = whole(model.prefill, ids, future=1)
    model.working_memory = 0
    y, state = model.prefill(ids, future=1)
    assert_close(y, wanted, 1e-12)
    assert_close(model(ids), wanted, 1e-12)
    assert_close(model.step(ids[:, 0], state)[0], model.step(ids[:, 0], expected)[0], 1e-12)


class Around(nn.Module):
    """A block that keeps channels, not positions, apart in memory."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: Any) -> Tensor:
        y: Tensor = self.block(*inputs)
        return y.transpose(1, 2).contiguous().transpose(1, 2)


@torch.no_grad()
def test_positions_that_do_not_lie_side_by_side() -> None:
    model, ids = small_model(), tokens(2, L)
    model.blocks[0] = Around(model.blocks[0])
    expected = whole(model, ids)
    model.working_memory = 0
    ALLOWED[0] = True  # of the block inside the other module
    assert_close(model(ids), expected, 1e-12)
    ALLOWED[0] = False


REFUSED = {
    "one row for two": torch.ones(1, L, dtype=torch.bool),
    "numbers": torch.ones(2, L, dtype=torch.int64),
    "a hole": torch.arange(L).ne(3).expand(2, L),
    "no tensor": [True],
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("call", ["__call__", "prefill"])
@torch.no_grad()
def test_masks_are_refused_as_of_the_whole(case: str, call: str) -> None:
    model, ids = small_model(), tokens(2, L)
    with pytest.raises((TypeError, ValueError)) as expected:
        whole(getattr(model, call), ids, mask=REFUSED[case])
    model.working_memory = 0
    with pytest.raises((TypeError, ValueError)) as found:
        getattr(model, call)(ids, mask=REFUSED[case])
    assert (found.type, str(found.value)) == (expected.type, str(expected.value))


@pytest.mark.parametrize(
    ("memory", "most", "expected"),
    [
        (0, 100, 2 * 5),  # of a row 5, 5, 4, 5, 4
        (8 * POSITION, 100, 2 * 3),
        (30 * POSITION, 100, 2),
        (30 * POSITION, 12, 2 * 2),
        (0, 1, 2 * L),
    ],
)
@torch.no_grad()
def test_pieces_follow_the_memory_down_to_a_few_positions(
    memory: int, most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(layers=1)
    monkeypatch.setattr(streaming, "SLICE_BYTES", most * POSITION)
    sizes: dict[str, list[int]] = {"mlp": [], "norm": []}
    forward, normalize = MLP.forward, streaming.normalize

    def of_mlp(self: MLP, x: Tensor) -> Tensor:
        sizes["mlp"].append(x.shape[0] * x.shape[1])
        return forward(self, x)

    def of_norm(norm: nn.Module, x: Tensor, reader: nn.Module) -> Tensor:
        if norm is model.blocks[0].norm1 and x.shape[:2] != (1, 1):  # of which a dtype is read
            sizes["norm"].append(x.shape[0] * x.shape[1])
        return normalize(norm, x, reader)

    monkeypatch.setattr(MLP, "forward", of_mlp)
    monkeypatch.setattr(streaming, "normalize", of_norm)
    model.working_memory = memory
    model(tokens(2, L))
    assert len(sizes["mlp"]) == expected
    assert sum(sizes["mlp"]) == 2 * L
    if most > 1:  # for each group of channels
        assert sizes["norm"] == sizes["mlp"] * (len(sizes["norm"]) // expected)


def test_pieces_are_smaller_where_gradients_are_made() -> None:
    (block,), x = small_model(layers=1).blocks, torch.zeros(2, L, 12, dtype=torch.float64)
    for memory, expected in ((0, PIECE), (11 * POSITION, 11), (L * POSITION, L)):
        for gradients in (False, True):
            u = streaming.input_of(block, x, memory, gradients=gradients)  # type: ignore[arg-type]
            longest = max((p.stop - p.start) * (r.stop - r.start) for r, p in u.pieces)
            assert expected // (1 + gradients) >= longest > 0.4 * expected // (1 + gradients)


@torch.no_grad()
def test_the_head_has_the_memory_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, alive, head = small_model(max_length=40), [], LanguageModel._head
    taken: list[weakref.ref[Any]] = []
    take = groups.Buffers.take

    def seen(self: groups.Buffers, *arguments: Any) -> Tensor:
        y = take(self, *arguments)
        taken.extend(weakref.ref(x) for x in self._of.values())
        return y

    def after(self: LanguageModel, *arguments: Any) -> Tensor:
        alive.extend(ref for ref in taken if ref() is not None)
        return head(self, *arguments)

    monkeypatch.setattr(groups.Buffers, "take", seen)
    monkeypatch.setattr(LanguageModel, "_head", after)
    model.working_memory = 0
    ids = tokens(2, L)
    model(ids)
    model.prefill(ids, future=4)
    assert taken
    assert not alive


def test_bytes_are_a_whole_number() -> None:
    model = small_model()
    for name, default in (("working_memory", 128 << 20), ("kept_memory", 256 << 20)):
        for wrong in (-1, 1.5, True, "1 GiB"):
            with pytest.raises(ValueError, match=rf"^{name}: expected .*, got"):
                setattr(model, name, wrong)
        assert getattr(model, name) == default
