"""A head of its own: logits, losses and gradients, whatever stands in its place."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, relative_error
from small_models import PATTERNS, VOCABULARY, gradients, small_config, small_model, tokens
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.flop_counter import FlopCounterMode

import hyena
from hyena.arguments import IGNORE
from hyena.cli.model_facts import describe
from hyena.model import LanguageModel, language_model
from hyena.model.linear_cross_entropy import linear_cross_entropy

small = partial(small_model, tied=False)
ROOM = {"slices of 5": 5 * VOCABULARY * 8, "all at once": 1 << 20}


@pytest.fixture(params=ROOM)
def _room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    limited = partial(linear_cross_entropy, slice_bytes=ROOM[request.param])
    monkeypatch.setattr(language_model, "linear_cross_entropy", limited)


def vectors(model: LanguageModel, ids: Tensor) -> Tensor:
    """What the head is given, (B, L, D)."""
    found: list[Tensor] = []
    with torch.no_grad(), model.norm.register_forward_hook(lambda *call: found.append(call[2])):
        model(ids)
    return found[0]


def targets_of(*shape: int) -> Tensor:
    """A third of the positions have none."""
    targets = tokens(*shape, seed=1)
    targets.view(-1)[::3] = IGNORE
    return targets


def of_logits(model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)


def test_its_name_and_place() -> None:
    names = list(small().state_dict())
    assert (names[0], names[-1]) == ("embedding.weight", "head.weight")
    assert names[:-1] == list(small_model().state_dict())
    assert small_model().head is None
    assert small().head.weight.shape == (32, 12)  # type: ignore[union-attr]
    assert small().parameter_count() == small_model().parameter_count() + 32 * 12


@pytest.mark.parametrize("mixers", PATTERNS)
@torch.no_grad()
def test_logits_are_its_product(mixers: str) -> None:
    model, ids = small(mixers), tokens(2, 9)
    head: Any = model.head
    expected = vectors(model, ids) @ head.weight[:VOCABULARY].t()
    assert_close(model(ids), expected, 1e-12)
    assert relative_error(vectors(model, ids) @ model.embedding.weight[:29].t(), expected) > 0.1
    last, state = model.prefill(ids[:, :8], last_only=True)
    assert_close(last, expected[:, 7:8], 1e-12)
    assert_close(model.step(ids[:, 8], state)[0], expected[:, 8], 1e-10)


def test_padding_of_the_vocabulary_is_never_predicted_and_never_trained() -> None:
    model, ids = small(), tokens(2, 9)
    logits = model(ids)
    assert logits.shape[-1] == VOCABULARY
    logits.square().sum().backward()
    found = gradients(model)
    assert not found["head.weight"][VOCABULARY:].any()
    assert bool(found["head.weight"][:VOCABULARY].any(dim=1).all())
    missing = sorted(set(range(VOCABULARY)) - set(ids.flatten().tolist()))
    assert not found["embedding.weight"][missing].any()  # which the head would have reached
    with torch.no_grad():
        model.head.weight[VOCABULARY:] = torch.nan  # type: ignore[union-attr, index]
    assert torch.equal(model(ids), logits)
    assert model(ids, targets=ids).isfinite()


def lowered(model: LanguageModel) -> None:
    """An adapter, as LoRA has it, not merged."""

    class LowRank(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.a, self.b = (
                nn.Linear(*sizes, bias=False, dtype=base.weight.dtype)
                for sizes in ((12, 3), (3, base.out_features))
            )

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.base(x) + self.b(self.a(x))
            return y

    assert model.head is not None
    model.head = LowRank(model.head)  # type: ignore[assignment]


def hooked(model: LanguageModel) -> None:
    assert model.head is not None
    model.head.register_forward_hook(lambda module, inputs, output: 2 * output)


def normalised(model: LanguageModel) -> None:
    assert model.head is not None
    parametrizations.weight_norm(model.head)
    model.head.parametrizations.weight.original0.data.mul_(1.5)  # type: ignore[union-attr]


def biased(model: LanguageModel) -> None:
    assert model.head is not None
    model.head.bias = nn.Parameter(torch.randn(32, dtype=model.head.weight.dtype))


CHANGES: dict[str, Callable[[LanguageModel], None]] = {
    "adapter": lowered,
    "hook": hooked,
    "parametrization": normalised,
    "bias": biased,
}


@pytest.mark.usefixtures("_room")
@pytest.mark.parametrize("change", ["none", *CHANGES])
@pytest.mark.parametrize("recomputed", [False, True])
def test_loss_and_gradients_are_those_of_the_logits(change: str, recomputed: bool) -> None:
    model, ids, targets = small().train(), tokens(2, 16), targets_of(2, 16)
    before = model(ids).detach()
    CHANGES.get(change, lambda model: None)(model)
    model.activation_checkpointing = recomputed
    if change != "none":
        assert relative_error(model(ids), before) > 0.01
    expected = of_logits(model, ids, targets)
    expected.backward()
    wanted = gradients(model)
    loss = model(ids, targets=targets)
    loss.backward()
    found = gradients(model)
    assert_close(loss, expected, 1e-12)
    assert_all_close([found[name] for name in wanted], list(wanted.values()), 1e-12)
    losses = model.token_losses(ids, targets)
    each = F.cross_entropy(model(ids).transpose(1, 2), targets, reduction="none").detach()
    assert_close(losses, each, 1e-12)
    assert not losses.requires_grad


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_generation_reads_what_stands_in_its_place(change: str) -> None:
    model, ids = small("hyena,attention"), tokens(2, 9)
    CHANGES[change](model)
    expected = model(ids)
    last, state = model.prefill(ids[:, :8], last_only=True)
    assert_close(last, expected[:, 7:8], 1e-12)
    assert_close(model.step(ids[:, 8], state)[0], expected[:, 8], 1e-10)


@pytest.mark.usefixtures("_room")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("change", ["none", "adapter"])
def test_the_loss_is_in_float32(dtype: torch.dtype, change: str) -> None:
    model, ids, targets = small(dtype=dtype), tokens(2, 16), targets_of(2, 16)
    CHANGES.get(change, lambda model: None)(model)
    loss = model(ids, targets=targets)
    assert loss.dtype == model.token_losses(ids, targets).dtype == torch.float32
    assert_close(loss, of_logits(model, ids, targets).float(), 0.01)
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {dtype}


@pytest.mark.cpu
@pytest.mark.usefixtures("_room")
@pytest.mark.parametrize("change", ["none", "adapter"])
def test_under_autocast(change: str) -> None:
    model, ids, targets = small(dtype=torch.float32), tokens(2, 16), targets_of(2, 16)
    CHANGES.get(change, lambda model: None)(model)
    exact = model(ids, targets=targets)
    with torch.autocast("cpu", torch.bfloat16):
        logits, loss = model(ids), model(ids, targets=targets)
    assert logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert_close(loss, exact, 0.05)
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_it_counts_as_the_tied_one_does() -> None:
    tied, untied = (LanguageModel(small_config(tied=t), device="meta") for t in (True, False))
    assert untied.flops(16, 2) == tied.flops(16, 2)
    model, ids = LanguageModel(small_config("attention", tied=False)), tokens(1, 9)
    with FlopCounterMode(display=False) as counter:
        model(ids)
    assert counter.get_flop_counts()["LanguageModel"]
    with FlopCounterMode(display=False) as other:
        LanguageModel(small_config("attention"))(ids)
    assert counter.get_total_flops() == other.get_total_flops()


@pytest.mark.cpu
def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    model, ids = small("hyena,attention", torch.float32), tokens(2, 9)
    model.save(tmp_path)
    loaded = hyena.load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(ids), model(ids))
    assert not torch.equal(loaded.head.weight, loaded.embedding.weight)  # type: ignore[union-attr]
    model.head = None
    with pytest.raises(ValueError, match=r"^save: .* missing head\.weight"):
        model.save(tmp_path / "other")


def test_what_is_said_of_a_model_counts_it_apart() -> None:
    text = describe(LanguageModel(small_config(tied=False), device="meta"), 8, 1)
    rows = [line.split()[:2] for line in text.splitlines()]
    assert ["embedding", "384"] in rows
    assert ["head", "384"] in rows
    assert "which is the head" not in text
    assert "which is the head" in describe(LanguageModel(small_config(), device="meta"), 8, 1)
