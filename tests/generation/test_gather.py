"""Rows at positions of their own run as one batch: each is what it is alone."""

from pathlib import Path

import pytest
import torch
from comparison import assert_close
from generation_models import build
from torch import Tensor

from hyena.generation import save_state
from hyena.generation.state import ModelState
from hyena.model import LanguageModel

KINDS = {
    "hyena": {},
    "attention": {},
    "learned": {"mixers": "hyena,attention", "positions": "learned"},
    "grouped": {"mixers": "attention", "kv_heads": 1},
    "rivals": {"mixers": "rwkv,aft-conv,linear-attention,mamba2", "layers": 4},
    "state_space": {"mixers": "h3,s4d,gss"},
    "striped": {"mixers": "hyena-se,hyena-mr,hyena-li", "positions": "none"},
}


def of_kind(kind: str, length: int = 512) -> LanguageModel:
    return build(**{"mixers": kind, **KINDS[kind], "max_length": length})


def row(length: int, seed: int) -> Tensor:
    return torch.randint(256, (length,), generator=torch.Generator().manual_seed(seed))


class Rows:
    """A batch that is fed with known rows, and what it gave."""

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.state = model, None
        self.names: list[int] = []
        self.texts: dict[int, Tensor] = {}
        self.at: dict[int, int] = {}
        self.logits: dict[int, list[Tensor]] = {}

    def join(self, name: int, prompt: int, new: int) -> None:
        text = self.texts[name] = row(prompt + new, name)
        logits, own = self.model.prefill(text[None, :prompt], future=new, last_only=True)
        self.at[name], self.logits[name] = prompt, [logits[0, -1]]
        self.state = ModelState.gather([own] if self.state is None else [self.state, own])
        self.names.append(name)

    def step(self, count: int) -> None:
        for _ in range(count):
            ids = torch.stack([self.texts[name][self.at[name]] for name in self.names])
            logits, self.state = self.model.step(ids, self.state)
            for name, own in zip(self.names, logits, strict=True):
                self.logits[name].append(own)
                self.at[name] += 1

    def leave(self, name: int) -> None:
        index = self.names.index(name)
        stay = [i for i in range(len(self.names)) if i != index]
        self.names.pop(index)
        self.state = ModelState.gather([self.state.select(stay)]) if stay else None

    def check(self) -> None:
        for name, found in self.logits.items():
            end = self.at[name]
            whole = self.model(self.texts[name][None, :end])[0]
            assert_close(torch.stack(found), whole[end - len(found) :], 1e-9)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_rows_join_and_leave_at_any_token(kind: str) -> None:
    rows = Rows(of_kind(kind))
    rows.join(1, 7, 200)
    rows.step(3)
    rows.join(2, 30, 20)  # longer than what is there
    rows.step(1)
    rows.join(3, 1, 160)
    rows.step(19)
    rows.leave(2)  # the longest
    rows.step(50)
    rows.join(4, 90, 90)
    rows.join(5, 2, 70)
    rows.step(70)
    rows.leave(5)
    rows.step(20)
    rows.leave(1)
    rows.leave(4)
    rows.step(160 - rows.at[3] + 1)
    rows.check()
    assert rows.state is not None
    assert rows.state.length == rows.at[3] == 161
    assert rows.state.starts is None


@torch.no_grad()
def test_a_plan_that_is_mostly_past_is_not_carried_along() -> None:
    rows = Rows(of_kind("hyena"))
    rows.join(0, 3, 100)
    for name in range(1, 9):
        rows.step(40)
        rows.join(name, 3, 100)
        if name > 1:
            rows.leave(name - 2)  # the one between goes on in the new plan
        assert rows.state is not None
        assert rows.state.layers[0].long.planned <= 256
    rows.check()


@torch.no_grad()
def test_batches_in_the_middle_of_their_plans_become_one() -> None:
    one = Rows(of_kind("hyena"))
    other = Rows(one.model)
    one.join(1, 5, 200)
    one.step(10)
    other.join(2, 20, 200)
    other.step(100)  # tiles of its plan are begun and not complete
    assert one.state is not None
    assert other.state is not None
    one.state = ModelState.gather([one.state, other.state])
    one.names += other.names
    for name in other.names:
        one.texts[name], one.at[name] = other.texts[name], other.at[name]
        one.logits[name] = other.logits[name]
    one.step(90)
    one.check()


@pytest.mark.parametrize("kind", ["hyena", "attention", "learned"])
@torch.no_grad()
def test_a_prefill_from_rows_at_positions_of_their_own(kind: str) -> None:
    rows = Rows(of_kind(kind))
    rows.join(1, 9, 80)
    rows.step(5)
    rows.join(2, 4, 70)
    rows.step(2)
    ids = torch.stack([rows.texts[n][rows.at[n] : rows.at[n] + 11] for n in rows.names])
    logits, rows.state = rows.model.prefill(ids, state=rows.state)
    for name, own in zip(rows.names, logits, strict=True):
        rows.logits[name] += [*own]
        rows.at[name] += 11
    rows.step(30)
    rows.check()


@torch.no_grad()
def test_rows_may_come_to_the_end_of_max_length_beside_longer_ones_that_have_left() -> None:
    rows = Rows(of_kind("attention", 32))
    rows.join(1, 20, 12)
    rows.join(2, 5, 27)
    rows.step(12)
    with pytest.raises(ValueError, match="the input is 33 tokens long"):
        rows.model.step(torch.tensor([1, 1]), rows.state)
    rows.leave(1)
    rows.step(15)
    rows.check()


@torch.no_grad()
def test_what_cannot_be_gathered_is_refused() -> None:
    model = of_kind("hyena")
    _, kept = model.prefill(row(5, 0)[None])
    _, other = model.prefill(row(9, 1)[None], future=4)
    with pytest.raises(ValueError, match="the states keep their inputs"):
        ModelState.gather([kept, other])
    with pytest.raises(ValueError, match="expected at least one state, got none"):
        ModelState.gather([])
    with pytest.raises(TypeError, match=r"ModelState\.gather: expected ModelStates, got list"):
        ModelState.gather([[]])
    _, attention = of_kind("attention").prefill(row(5, 0)[None])
    with pytest.raises(ValueError, match="the states are of different models"):
        ModelState.gather([other, attention])


@torch.no_grad()
def test_gathered_rows_are_joined_by_gather_alone_and_saved_one_by_one(tmp_path: Path) -> None:
    model = of_kind("attention")
    states = [model.prefill(row(n, n)[None], future=8)[1] for n in (4, 9)]
    gathered = ModelState.gather(states)
    with pytest.raises(ValueError, match=r"ModelState\.gather takes such"):
        ModelState.join([gathered, gathered])
    with pytest.raises(ValueError, match="save_state: expected rows at one position"):
        save_state(gathered, tmp_path / "state.safetensors")
    alone = ModelState.gather([gathered.select([0])])
    save_state(alone, tmp_path / "state.safetensors")
    for name, x in alone.layers[0].tensors().items():
        torch.testing.assert_close(x, states[0].layers[0].tensors()[name], rtol=0, atol=0)
    assert alone.layers[0].tensors().keys() == states[0].layers[0].tensors().keys()


@torch.no_grad()
def test_a_plan_may_be_given_back_in_part() -> None:
    model, text = of_kind("hyena"), row(30, 1)
    _, state = model.prefill(text[None, :10], future=400)
    found = []
    for at in range(10, 30):
        if at == 17:
            state.limit(13)
        logits, state = model.step(text[None, at], state)
        found.append(logits[0])
    assert_close(torch.stack(found), model(text[None])[0, 10:], 1e-9)
    assert state.layers[0].long.planned == 20
    with pytest.raises(ValueError, match="30 tokens that were planned for have come"):
        model.step(text[None, 0], state)
