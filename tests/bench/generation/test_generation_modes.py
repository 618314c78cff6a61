"""A hyena-li operator at positions far apart."""

import copy

import pytest
import torch
from comparison import assert_close

from hyena.bench.generation import modes, positions
from hyena.bench.generation.cases import Case, modal
from hyena.bench.generation.modes import build_modal_operator, modes_of, state_by_definition
from hyena.bench.generation.report import time_rows
from hyena.bench.generation.run import measure

SMALL = Case("modes", ("t=1", "t=30", "t=200"), 1, 200, tokens=20, width=8, repeats=1)


def test_every_position_is_checked_and_has_a_state_of_one_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(positions, "CHUNK", 70)  # of 200, three pieces
    found = measure(SMALL, seconds=1.0)
    assert "failed" not in found
    assert found["skipped"] == {}
    for what in ("times", "errors", "state_errors"):
        assert set(found[what]) == set(SMALL.contenders)
    assert max(found["errors"].values()) < 1e-4
    assert max(found["state_errors"].values()) < 1e-5
    assert len(set(found["held"].values())) == 1
    heading, *rows = time_rows([found])
    assert "context" not in heading
    assert [row[heading.index("contender")] for row in rows] == list(SMALL.contenders)
    assert "error of the state" in heading


def test_the_definition_of_the_state_is_the_sum_of_what_is_left_of_each_input() -> None:
    wide = build_modal_operator(6, 40).double()
    u = torch.randn(25, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, gate, v = wide.short_conv(wide.in_proj(u[None].double()).transpose(1, 2)).chunk(3, dim=1)
        ages = torch.arange(24, -1, -1)
        left = (wide.filter.taps.log_poles[0, ..., None] * ages).exp()  # (D, S, L)
        expected = (left * (gate * v)[0][:, None]).sum(-1)
    assert_close(state_by_definition(wide, u), expected, 1e-12)


def test_a_state_that_is_reached_in_pieces_is_that_of_a_prefill() -> None:
    operator = build_modal_operator(6, 10)  # shorter than what comes
    u = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        _, whole = operator.prefill(u[None])
        _, state = operator.prefill(u[None, :20])
        _, state = operator.prefill(u[None, 20:], state=state)
    assert_close(modes_of(state), modes_of(whole), 1e-5)
    wide = copy.deepcopy(operator).double()
    assert_close(modes_of(whole).double(), state_by_definition(wide, u), 1e-5)


def test_a_wrong_state_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = modes.state_by_definition
    monkeypatch.setattr(modes, "state_by_definition", lambda *given: 1.01 * right(*given))
    found = measure(SMALL, seconds=1.0)
    assert min(found["state_errors"].values()) > 5e-3


def test_the_positions_are_far_apart() -> None:
    case = modal()
    first, *_, last = (int(name.removeprefix("t=")) for name in case.contenders)
    assert (first, last) == (8192, 1 << 20)
    assert case.context == last
    assert modal(small=True).kind == case.kind
