"""Blocks that run in pieces in the memory of the residual stream give what they give whole."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import LowRank, small_model, tokens
from torch import Tensor, nn

from hyena.mixers import SPECS
from hyena.model.block import Block
from hyena.model.streaming import slices

L = 23  # odd, and no slice divides it
WHOLE = 1 << 40
POSITION = 2 * 20 * 8  # bytes that one makes in an MLP of 20, in float64

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "padding on the left": {"mask": torch.arange(L) >= torch.tensor([[0], [5]])},
    "padding on the right": {"mask": torch.arange(L) < torch.tensor([[4], [L]])},
    "documents": {"document_ids": torch.stack([torch.arange(L) // 5, torch.arange(L) // 9])},
}


@pytest.fixture(autouse=True)
def _only_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a block takes its input whole, unless a test says that it does."""
    whole = Block.forward

    def forward(self: Block, x: Tensor, mask: Any, segments: Any) -> Tensor:
        assert ALLOWED
        return whole(self, x, mask, segments)

    monkeypatch.setattr(Block, "forward", forward)


ALLOWED: list[None] = []


def whole(model: Any, *arguments: Any, **options: Any) -> Tensor:
    """The logits, of the way that short inputs take."""
    model.working_memory = WHOLE
    ALLOWED.append(None)
    try:
        y: Tensor = model(*arguments, **options)
    finally:
        ALLOWED.clear()
    return y


@pytest.mark.parametrize("mixer", SPECS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory", [0, 5 * POSITION, L * POSITION, 2 * L * POSITION - 1])
@torch.no_grad()
def test_logits_are_those_of_the_whole(mixer: str, case: str, memory: int) -> None:
    model, ids = small_model(mixer), tokens(2, L)
    expected = whole(model, ids, **CASES[case])
    model.working_memory = memory
    y = model(ids, **CASES[case])
    real = CASES[case].get("mask", torch.ones(2, L, dtype=torch.bool))
    assert_close(y[real], expected[real], 1e-12)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("memory", [0, 7 * POSITION])
@torch.no_grad()
def test_of_any_order(order: int, memory: int) -> None:
    model, ids = small_model(order=order), tokens(1, L)
    expected = whole(model, ids)
    model.working_memory = memory
    assert_close(model(ids), expected, 1e-12)


@torch.no_grad()
def test_losses_are_those_of_the_whole() -> None:
    model, ids = small_model(), tokens(2, L)
    logits, targets = whole(model, ids), ids.roll(-1, 1)
    expected = nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    model.working_memory = 3 * POSITION
    assert_close(model.token_losses(ids, targets), expected, 1e-12)
    assert_close(model(ids, targets=targets), expected.mean(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_in_narrow_numbers(dtype: torch.dtype) -> None:
    model, ids = small_model(dtype=dtype), tokens(2, L)
    expected = whole(model, ids)
    model.working_memory = 0
    assert_close(model(ids).double(), expected.double(), 1e-5 if dtype == torch.float32 else 0.03)


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
    ALLOWED.append(None)
    assert_close(model(ids), expected, 1e-12)
    ALLOWED.clear()
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
    ALLOWED.append(None)
    model(ids)
    ALLOWED.clear()
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
    assert_close(model(ids), expected, 1e-12)


def test_bytes_are_a_whole_number() -> None:
    model = small_model()
    assert model.working_memory == 128 << 20
    for wrong, error in ((-1, ValueError), (1.5, TypeError), ("1 GiB", TypeError)):
        with pytest.raises(error, match=r"^LanguageModel: expected .*working_memory.*, got"):
            model.working_memory = wrong  # type: ignore[assignment]
    assert model.working_memory == 128 << 20


def test_slices_cover_everything_once() -> None:
    for count in range(40):
        for memory in (0, 1, 3, 10, 29, 1000):
            found = slices(count, 3, memory)
            assert [i for s in found for i in range(s.start, s.stop)] == list(range(count))
            assert all(3 * (s.stop - s.start) <= max(memory, 3) for s in found)
