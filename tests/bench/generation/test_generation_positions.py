"""Positions of a recurrent filter that are reached in chunks."""

import pytest
import torch

from hyena.bench.generation import positions
from hyena.bench.generation.cases import Case
from hyena.bench.generation.mixers import build_operator
from hyena.bench.generation.positions import chunks, state_after
from hyena.bench.generation.run import measure


def test_a_state_from_chunks_is_that_of_a_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(positions, "CHUNK", 7)
    operator = build_operator(6, 40, recurrent=True)
    u = torch.cat(list(chunks(40, 6)))
    assert u.shape == (40, 6)
    with torch.no_grad():
        got = state_after(operator, chunks(40, 6))
        _, expected = operator.prefill(u[None])
    assert got.length == 40
    torch.testing.assert_close(got.tensors(), expected.tensors(), rtol=1e-4, atol=1e-4)


def test_every_position_is_checked_and_has_a_state_of_one_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(positions, "CHUNK", 64)
    row = Case("positions", ("t=1", "t=30", "t=200"), 1, 200, tokens=20, width=8, repeats=1)
    found = measure(row, seconds=1.0)
    assert "failed" not in found
    assert set(found["times"]) == set(found["errors"]) == set(row.contenders)
    assert max(found["errors"].values()) < 1e-4
    assert len(set(found["held"].values())) == 1


def test_a_wrong_state_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = positions.state_after

    def wrong(*given: object) -> object:
        state = right(*given)  # type: ignore[arg-type]
        state.long.x.mul_(1.01)  # type: ignore[union-attr]
        return state

    monkeypatch.setattr(positions, "state_after", wrong)
    row = Case("positions", ("t=100",), 1, 100, tokens=20, width=8, repeats=1)
    assert measure(row, seconds=1.0)["failed"].startswith("t=100: its tokens differ")
