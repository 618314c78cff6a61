"""How large the pieces of a block are, what they share, and what is kept beside them."""

import weakref
from typing import Any

import pytest
import torch
from comparison import assert_close
from small_models import small_model, tokens
from taken_whole import ALLOWED, PIECE, POSITION, L, whole
from torch import Tensor, nn

from hyena.mixers.hyena import groups
from hyena.model import LanguageModel, streaming
from hyena.model.mlp import MLP, GatedMLP
from hyena.model.norm import RMSNorm

pytestmark = pytest.mark.usefixtures("pieces")


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
    for name, default in (("working_memory", 64 << 20), ("kept_memory", 256 << 20)):
        for wrong in (-1, 1.5, True, "1 GiB"):
            with pytest.raises(ValueError, match=rf"^{name}: expected .*, got"):
                setattr(model, name, wrong)
        assert getattr(model, name) == default


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


@pytest.mark.parametrize("fits", [True, False])
@torch.no_grad()
def test_spectra_are_kept_of_an_operator_that_goes_whole(fits: bool) -> None:
    model, ids = small_model(mlp_width=200), tokens(2, L)
    op: Any = model.blocks[0].mixer
    model.working_memory = 2 * L * (2 * 200) * 8 - (not fits)  # of hidden values
    ALLOWED[0] = fits
    model(ids)
    assert (op.filter.kept.nbytes > 0) is fits


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


@torch.no_grad()
def test_the_stream_that_comes_in_is_not_written_to_by_a_norm() -> None:
    norm = RMSNorm(12, dtype=torch.float64)
    x = torch.randn(2, L, 12, dtype=torch.float64)
    before = x.clone()
    streaming.normalize(norm, x[:, 3:9], norm)
    assert torch.equal(x, before)
