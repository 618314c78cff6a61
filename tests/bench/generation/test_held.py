"""Bytes that a state holds."""

from typing import Any

import pytest
import torch

from hyena.bench.generation.held import held_bytes, tensors
from hyena.bench.generation.mixers import build_attention, build_operator, random_inputs
from hyena.mixers import AttentionState, HyenaOperator

FLOAT = 4


def state_of(mixer: Any, context: int, future: int) -> Any:
    with torch.no_grad():
        return mixer.prefill(random_inputs(2, context, mixer.width), future=future)[1]


def test_a_kv_cache_counts_with_the_room_it_has() -> None:
    for future in (8, 0):
        state = state_of(build_attention(8), 12, future)
        assert held_bytes(state) == 2 * 2 * 8 * (12 + future) * FLOAT
    assert held_bytes([state, state]) == held_bytes(state)


def test_all_that_a_view_keeps_alive_counts() -> None:
    k = torch.zeros(1, 1, 100, 4)
    assert held_bytes(AttentionState(k[:, :, :1], k[:, :, :1])) == 100 * 4 * FLOAT


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_hyena_state_is_what_the_operator_says(recurrent: bool) -> None:
    mixer = build_operator(8, 400, recurrent=recurrent)
    state = state_of(mixer, 200, 100)
    assert held_bytes(state) == 2 * FLOAT * mixer.state_size(200, 100)


def test_what_the_filter_keeps_for_all_sequences_does_not_count() -> None:
    operator = HyenaOperator(8, 4000).eval()
    state = state_of(operator, 2000, 1000)
    before = held_bytes(state)
    with torch.no_grad():
        for u in random_inputs(2, 3, 8).unbind(1):
            operator.step(u, state)
    # Not the tiles' spectra (8 · 2 · 1024 numbers at least); little, if a step needs workspace.
    assert before <= held_bytes(state) < before + 8 * 1024 * FLOAT


def test_the_layers_tensors_do_not_count_once_steps_have_read_them() -> None:
    operator = HyenaOperator(8, 400).eval().requires_grad_(False)  # all of it is watched
    state = state_of(operator, 200, 100)
    with torch.no_grad():
        _, state = operator.step(random_inputs(2, 1, 8)[:, 0], state)
    assert state.versions  # it watches them
    own = {x.data_ptr() for x in (*operator.parameters(), *operator.buffers())}
    assert not [x.shape for x in tensors(state) if x.data_ptr() in own]
