"""Models whose blocks were changed, or are watched: their blocks run whole where they have to, and
give the same."""

from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import LowRank, small_model, tokens
from taken_whole import ALLOWED, L, whole
from torch import Tensor, nn

pytestmark = pytest.mark.usefixtures("pieces")


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
