"""Short inputs on the ways that long ones take."""

from collections.abc import Iterator
from typing import Any

import pytest
from taken_whole import ALLOWED, PIECE, POSITION, taken_whole
from torch import Tensor

from hyena.mixers import HyenaOperator
from hyena.mixers.hyena import groups
from hyena.model import recomputed, streaming
from hyena.model.block import Block


@pytest.fixture
def short_rows_go_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hyena operator runs by groups of channels whatever the length."""
    monkeypatch.setattr(groups, "SHORTEST", 1)


@pytest.fixture
def pieces(short_rows_go_by_groups: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails where a block or a Hyena operator takes its input whole, and rows of the length that
    tests have go in several pieces."""
    monkeypatch.setattr(streaming, "LEAST_SLICE_BYTES", PIECE * POSITION)
    monkeypatch.setattr(Block, "forward", taken_whole(Block.forward))
    monkeypatch.setattr(Block, "prefill", taken_whole(Block.prefill))
    monkeypatch.setattr(HyenaOperator, "_mix", taken_whole(HyenaOperator._mix))
    yield
    ALLOWED[0] = False


@pytest.fixture
def in_pieces(short_rows_go_by_groups: None, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one with each block that is recomputed in pieces."""
    calls: list[None] = []
    forward = recomputed.forward

    def counted(*arguments: Any) -> Tensor:
        calls.append(None)
        return forward(*arguments)

    monkeypatch.setattr(recomputed, "forward", counted)
    return calls
