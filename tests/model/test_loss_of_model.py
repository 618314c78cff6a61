"""The loss of a language model: that of its logits, whatever stands in the model or looks on."""

from functools import partial
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close
from small_models import PATTERNS, VOCABULARY, LowRank, gradients, small_config, small_model, tokens
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.model import LanguageModel, language_model
from hyena.model.linear_cross_entropy import linear_cross_entropy

ROOM = {"slices of 5": 5 * VOCABULARY * 8, "all at once": 1 << 20}


@pytest.fixture(params=ROOM)
def _room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = partial(linear_cross_entropy, slice_bytes=ROOM[request.param])
    monkeypatch.setattr(language_model, "linear_cross_entropy", limited)


pytestmark = pytest.mark.usefixtures("_room")


def some_targets(*shape: int) -> Tensor:
    """A third of the positions have none."""
    targets = tokens(*shape, seed=1)
    targets.view(-1)[::3] = IGNORE
    return targets


def of_logits(model: nn.Module, ids: Tensor, targets: Tensor, **options: Any) -> Tensor:
    logits = model(ids, **options)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("which", ["plain", "packed", "padded", "recomputed"])
def test_loss_and_gradients_are_those_of_the_logits(mixers: str, which: str) -> None:
    model, ids, targets = small_model(mixers).train(), tokens(2, 16), some_targets(2, 16)
    model.activation_checkpointing = which == "recomputed"
    options: dict[str, Tensor] = {}
    if which == "packed":
        options["document_ids"] = (torch.arange(32).view(2, 16) % 16) // 5
    if which == "padded":
        options["mask"] = torch.arange(16) >= torch.tensor([[3], [0]])
    expected = of_logits(model, ids, targets, **options)
    expected.backward()
    wanted = gradients(model)
    loss = model(ids, targets=targets, **options)
    loss.backward()
    assert_close(loss, expected, 1e-12)
    found = gradients(model)
    assert_all_close([found[name] for name in wanted], list(wanted.values()), 1e-12)


def test_gradients_of_several_parts_add_up() -> None:
    model, ids, targets = small_model(), tokens(4, 16), some_targets(4, 16)
    (of_logits(model, ids[:2], targets[:2]) + of_logits(model, ids[2:], targets[2:])).backward()
    wanted = gradients(model)
    for rows in (slice(0, 2), slice(2, 4)):
        model(ids[rows], targets=targets[rows]).backward()
    found = gradients(model)
    assert_all_close([found[name] for name in wanted], list(wanted.values()), 1e-12)


def test_an_adapter_of_the_embedding_is_trained_through_both_of_its_uses() -> None:
    model, ids, targets = small_model(), tokens(2, 16), some_targets(2, 16)
    model.embedding = LowRank(model.embedding)  # type: ignore[assignment]
    of_logits(model, ids, targets).backward()
    wanted = gradients(model)
    model(ids, targets=targets).backward()
    found = gradients(model)
    assert_all_close([found[name] for name in wanted], list(wanted.values()), 1e-12)


def test_hooks_on_the_norm_count() -> None:
    model, ids, targets = small_model(), tokens(2, 16), some_targets(2, 16)
    before = model(ids, targets=targets)
    model.norm.register_forward_hook(lambda module, inputs, output: 2 * output)
    loss = model(ids, targets=targets)
    assert (loss - before).abs() > 1e-3
    assert_close(loss, of_logits(model, ids, targets), 1e-12)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32])
def test_the_loss_of_each_token(kind: torch.dtype) -> None:
    model, ids, targets = small_model(), tokens(2, 16), some_targets(2, 16)
    losses = model.token_losses(ids, targets.to(kind))
    assert not losses.requires_grad
    expected = F.cross_entropy(model(ids).transpose(1, 2), targets, reduction="none").detach()
    assert_close(losses, expected, 1e-12)
    assert_close(model(ids, targets=targets.to(kind)), losses.sum() / (losses != 0).sum(), 1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_in_float32(dtype: torch.dtype) -> None:
    model, ids, targets = small_model(dtype=dtype), tokens(2, 16), some_targets(2, 16)
    loss = model(ids, targets=targets)
    assert loss.dtype == model.token_losses(ids, targets).dtype == torch.float32
    assert_close(loss, of_logits(model, ids, targets).float(), 0.01)
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {dtype}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            torch.zeros(2, 15).long(),
            r"expected int64 targets \(2, 16\) like .* got \(2, 15\) of",
        ),
        (torch.zeros(2, 16), r"like input_ids, got \(2, 16\) of torch.float32"),
        (torch.full((2, 16), VOCABULARY), "token id 29 is outside the vocabulary of 29"),
        (torch.full((2, 16), -1), "token id -1 is outside the vocabulary of 29"),
    ],
)
def test_targets_that_cannot_be(targets: Tensor, message: str) -> None:
    model, ids = small_model(), tokens(2, 16)
    for call in (lambda: model(ids, targets=targets), lambda: model.token_losses(ids, targets)):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="LanguageModel: expected a tensor as targets, got int"):
        model(ids, targets=3)


@pytest.mark.parametrize("working_memory", [1 << 12, 1 << 30])
def test_the_loss_of_a_model_on_meta(working_memory: int) -> None:
    """Whose targets have no values, so that no input is taken in pieces by them."""
    model = LanguageModel(small_config(max_length=300), device="meta")
    model.working_memory = working_memory
    model.activation_checkpointing = True
    ids = tokens(2, 300).to("meta")
    loss = model(ids, targets=ids)
    loss.backward()
    assert loss.is_meta
    assert loss.shape == ()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert model.token_losses(ids, ids).shape == (2, 300)
