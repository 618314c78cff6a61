"""A Hyena operator goes by groups of channels, but for inputs that the page on training names."""

from typing import Any

import pytest
import torch

from hyena import HyenaOperator
from hyena.filters import DiagonalSSM, LongFilter
from hyena.mixers import CausalSelfAttention
from hyena.mixers.hyena import groups
from hyena.mixers.mixer import Room
from hyena.ops import Segments

D, L = 8, 256
MASK = torch.ones(1, L, dtype=torch.bool)
SEGMENTS = Segments.from_document_ids(torch.zeros(1, L, dtype=torch.int64))
ROOM = Room(None, False)


def operator(**options: Any) -> HyenaOperator:
    return HyenaOperator(D, L, **options).eval()


def recurrent() -> HyenaOperator:
    return operator(filter=LongFilter(DiagonalSSM(D, state=4), D, L))


CASES: dict[str, tuple[bool, Any, dict[str, Any]]] = {
    "plain": (True, operator(), {}),
    "padding": (True, operator(), {"mask": MASK}),
    "documents": (True, operator(), {"segments": SEGMENTS}),
    "both": (False, operator(), {"mask": MASK, "segments": SEGMENTS}),
    "short": (False, operator(), {"length": L - 1}),
    "a prompt": (True, operator(), {"room": ROOM}),
    "from a state": (False, operator(), {"room": ROOM._replace(state=object())}),
    "recurrent": (True, recurrent(), {}),
    "recurrent, a prompt": (False, recurrent(), {"room": ROOM}),
    "both ways": (False, operator(bidirectional=True), {}),
    "another mixer": (False, CausalSelfAttention(D, head_dim=4), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_these_go_by_groups(case: str) -> None:
    expected, mixer, given = CASES[case]
    u = groups.Input(1, given.get("length", L), [], lambda rows, positions: torch.empty(0))
    got = groups.takes(mixer, u, given.get("mask"), given.get("segments"), given.get("room"))
    assert got is expected
