"""A prefill from a state goes on where the state is: pieces equal the whole, for every mixer."""

import re
from collections.abc import Iterable
from typing import Any

import mixer_cases
import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import CASES, D, M, build, draw, each_mixer, hyena
from torch import Tensor

from hyena.filters import LongFilter
from hyena.filters.transfer_function import TransferFunctionTaps
from hyena.mixers import SPECS, CausalSelfAttention, HyenaOperator
from hyena.mixers.attention.state import AttentionState
from hyena.ops.stepping import online

PIECES = (1, 2, 63, 64, 65, 1000)
LONG = 1200

# Of the tokens to come the first prefill is told nothing; of all; of two, but inputs are kept.
PLANS: dict[str, dict[str, Any]] = {
    "grows": {},
    "planned": {"future": LONG},
    "kept": {"future": 2, "keep_inputs": True},
}
each_plan = pytest.mark.parametrize("plan", PLANS)


@pytest.fixture
def long_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixer_cases, "M", 2 * LONG)


def read(mixer: Any, u: Tensor, pieces: Iterable[int], **first: Any) -> tuple[Tensor, Any]:
    """Outputs and state of prefills of these sizes, or where one is 0, of a step; ``first`` are
    the options of the first."""
    outputs, state, at = [], None, 0
    for size in pieces:
        if size == 0:
            y, state = mixer.step(u[:, at], state)
            outputs.append(y[:, None])
        else:
            options = first if state is None else {"state": state}
            y, state = mixer.prefill(u[:, at : at + size], **options)
            outputs.append(y)
        at += max(size, 1)
    return torch.cat(outputs, dim=1), state


@pytest.mark.parametrize("pieces", [PIECES, (65, 1000, 64, 1, 63, 2)], ids=str)
@each_plan
@each_mixer
@torch.no_grad()
def test_pieces_equal_the_whole(
    name: str, plan: str, pieces: tuple[int, ...], long_filters: None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, sum(pieces) + 3, D)
    y, _ = read(mixer, u, (*pieces, 0, 0, 0), **PLANS[plan])
    assert_close(y, mixer(u), 1e-10)


@each_plan
@each_mixer
@torch.no_grad()
def test_pieces_between_steps(
    name: str, plan: str, long_filters: None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 400, D)
    steps = [0] * 70
    y, _ = read(mixer, u, (3, *steps, 1, 0, 64, 0, 0, 63, 2, *steps, 121), **PLANS[plan])
    assert_close(y, mixer(u)[:, : y.shape[1]], 1e-10)


def transfer(**place: Any) -> HyenaOperator:
    taps = TransferFunctionTaps(D, 4, filters=2, **place)
    filter = LongFilter(taps, D, 2 * LONG, filters=2, **place)
    return HyenaOperator(D, 2 * LONG, 3, filter=filter, **place)


MORE: dict[str, Any] = {
    "transfer functions": transfer,
    "extrapolating": hyena(3, length_policy="extrapolate"),
    "block-causal": hyena(2, block_causal=True),
    **{f"{taps} short taps": hyena(2, short_width=taps) for taps in (1, 2, 5)},
}


@each_plan
@pytest.mark.parametrize("name", MORE)
@torch.no_grad()
def test_operators_of_other_kinds(name: str, plan: str, generator: torch.Generator) -> None:
    mixer = MORE[name](dtype=torch.float64).eval()
    length = 150 if name in ("transfer functions", "extrapolating") else M
    u = draw(generator, 2, length, D)
    options = {**PLANS[plan]}
    if "future" in options:
        options["future"] = min(options["future"], length - 2)
    y, _ = read(mixer, u, (2, 1, 0, 0, 7, 9, 0, length - 21), **options)
    assert_close(y, mixer(u), 1e-10)


@each_plan
@each_mixer
@torch.no_grad()
def test_rows_with_padding_before_their_first_tokens(
    name: str, plan: str, long_filters: None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 3, 90, D)
    mask = torch.ones(3, 8, dtype=torch.bool)
    for row, padding in enumerate((4, 0, 7)):
        mask[row, :padding] = False
        u[row, :padding] = float("nan")
    y, _ = read(mixer, u, (8, 1, 0, 65, 15), mask=mask, **PLANS[plan])
    for row, padding in enumerate((4, 0, 7)):
        assert_close(y[row, padding:], mixer(u[row : row + 1, padding:])[0], 1e-10)


@pytest.mark.parametrize(("plan", "pieces", "moves"), [("grows", 64, 7), ("planned", 64, 1)])
@torch.no_grad()
def test_a_cache_moves_seldom_as_it_grows(
    plan: str, pieces: int, moves: int, generator: torch.Generator, monkeypatch: Any
) -> None:
    moved: list[int] = []
    reserve = AttentionState.reserve

    def counting(state: AttentionState, capacity: int) -> None:
        moved.append(capacity)
        reserve(state, capacity)

    monkeypatch.setattr(AttentionState, "reserve", counting)
    mixer = CausalSelfAttention(D, head_dim=2, dtype=torch.float64).eval()
    u = draw(generator, 2, 16 * pieces, D)
    y, state = read(mixer, u, [16] * pieces, **PLANS[plan])
    assert_close(y, mixer(u), 1e-10)
    assert len(moved) == moves  # the first prefill's own among them
    assert sum(moved) <= 2 * state.capacity + 16
    assert state.capacity <= max(2 * state.length, LONG + 16)


@torch.no_grad()
def test_a_piece_that_says_what_is_to_come_makes_room_for_no_more(
    generator: torch.Generator,
) -> None:
    mixer = CausalSelfAttention(D, head_dim=2, dtype=torch.float64).eval()
    u = draw(generator, 1, 60, D)
    _, state = mixer.prefill(u[:, :40])
    _, state = mixer.prefill(u[:, 40:], future=3, state=state)
    assert state.capacity == 63


@pytest.mark.parametrize("block", [1, 2, 8])
@pytest.mark.parametrize("order", [2, 3])
@torch.no_grad()
def test_wherever_a_plan_stands(
    order: int, block: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "BLOCK", block)  # so small that there are tiles of many sizes
    monkeypatch.setattr(mixer_cases, "M", 48)
    mixer, u = hyena(order)(dtype=torch.float64).eval(), draw(generator, 2, 26, D)
    whole = mixer(u)
    for steps in range(18):  # a tile of 16 among them
        for piece in (1, 5, 24 - steps):
            rest = [0] * (24 - steps - piece)
            y, _ = read(mixer, u, (2, *[0] * steps, piece, *rest), future=24)
            assert_close(y, whole, 1e-10)


@each_mixer
@torch.no_grad()
def test_a_piece_may_plan_anew(name: str, long_filters: None, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 30, D)
    whole = mixer(u)
    for keep in (True, False):
        _, state = mixer.prefill(u[:, :5], future=3, keep_inputs=True)
        y, state = mixer.prefill(u[:, 5:15], future=15, keep_inputs=keep, state=state)
        assert_close(y, whole[:, 5:15], 1e-10)
        for t in range(15, 30):
            y, state = mixer.step(u[:, t], state)
            assert_close(y, whole[:, t], 1e-10)


@each_mixer
@torch.no_grad()
def test_in_float32_and_in_inference_mode(
    name: str, long_filters: None, generator: torch.Generator
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 140, D)
    whole, mixer, u = mixer(u), mixer.float(), u.float()
    for plan in PLANS.values():
        with torch.inference_mode():
            y, state = read(mixer, u, (9, 0, 65), **plan)
        assert_close(y, whole[:, :75], 1e-5, dtype=torch.float32)
        y, state = mixer.prefill(u[:, 75:76], state=state)
        assert_close(y, whole[:, 75:76], 1e-5, dtype=torch.float32)
        with torch.inference_mode():
            y, state = mixer.prefill(u[:, 76:], state=state)
        assert_close(y, whole[:, 76:], 1e-5, dtype=torch.float32)


@each_mixer
def test_gradients_flow_through_the_state_or_are_refused(
    name: str, generator: torch.Generator
) -> None:
    mixer, u = build(name), draw(generator, 2, 9, D)
    if issubclass(SPECS[name.split(",")[0]].state, tuple):  # a step makes a new one
        expected = with_module_gradients(mixer, mixer, u)
        for pieces in ((4, 5), (1, 1, 7), (2, 0, 3, 0, 2)):
            got = with_module_gradients(mixer, lambda u, p=pieces: read(mixer, u, p)[0], u)
            assert_all_close(got, expected, 1e-9)
        return
    _, state = mixer.prefill(u)
    message = f"{type(mixer).__name__}.prefill: generation records no gradients; call it under"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        mixer.prefill(u, state=state)
    mixer.requires_grad_(False)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        mixer.prefill(u.requires_grad_(), state=state)
    y, _ = mixer.prefill(u.detach(), state=state)
    assert not y.requires_grad


@each_mixer
@torch.no_grad()
def test_what_does_not_fit_is_one_line(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 5, D)
    cls, own = type(mixer).__name__, SPECS[name.split(",")[0]].state
    _, state = mixer.prefill(u)
    wrong: list[tuple[str, Tensor, dict[str, Any]]] = [
        (f"{cls}.prefill: expected u (B, L, D) of the state's B = 2 rows, got (3, 5, 8)",
         draw(generator, 3, 5, D), {}),
        (f"{cls}.prefill: expected u (B, L, {D}) with L ≥ 1, got (2, 0, {D}); ", u[:, :0], {}),
        (f"{cls}.prefill: expected no mask beside a state, since padding stands only before ",
         u, {"mask": torch.ones(2, 5, dtype=torch.bool)}),
        (f"{cls}.prefill: expected future ≥ 0 tokens, got -1", u, {"future": -1}),
    ]  # fmt: skip
    for message, piece, options in wrong:
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            mixer.prefill(piece, state=state, **options)
    strangers = [build(other) for other in CASES if SPECS[other.split(",")[0]].state is not own]
    for other in (*(stranger.prefill(u)[1] for stranger in strangers), "state", {}):
        message = f"{cls}.prefill: expected {own.__name__}, got {type(other).__name__}; pass what"
        with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
            mixer.prefill(u, state=other)
    narrow = build(name, dtype=torch.float32).prefill(u.float())[1]
    message = f"{cls}.prefill: u is torch.float64 but the state is torch.float32, which would round"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        mixer.prefill(u, state=narrow)
    y, _ = mixer.prefill(u, state=state)  # which none of this touched
    assert_close(y, mixer(torch.cat([u, u], dim=1))[:, 5:], 1e-10)


@pytest.mark.parametrize(
    ("first", "then", "got"),
    [
        ({"future": 4}, {}, "4 tokens are left; got 5, future=None and keep_inputs=False"),
        ({"future": 0}, {}, "0 tokens are left; got 5, future=None and keep_inputs=False"),
        ({"future": 8}, {"future": 4}, "8 tokens are left; got 5, future=4 and keep_inputs=False"),
        ({"future": 8}, {"keep_inputs": True}, "8 tokens are left; got 5, future=None and keep_i"),
    ],
)
@torch.no_grad()
def test_a_plan_without_inputs_ends(
    first: dict[str, Any], then: dict[str, Any], got: str, generator: torch.Generator
) -> None:
    mixer, u = hyena(2)(dtype=torch.float64).eval(), draw(generator, 2, 5, D)
    _, state = mixer.prefill(u, **first)
    message = f"HyenaOperator.prefill: the state keeps no inputs, and of its plan {got}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        mixer.prefill(u, state=state, **then)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("error", "the input is 25 long but max_length is 24; "),
        ("interpolate", "length 25 exceeds max_length 24: with length_policy "),
    ],
)
@torch.no_grad()
def test_no_sequence_grows_past_max_length(
    policy: str, message: str, generator: torch.Generator
) -> None:
    mixer = hyena(2, length_policy=policy)(dtype=torch.float64).eval()
    u = draw(generator, 1, 25, D)
    for first in ({}, {"future": 4}):
        _, state = mixer.prefill(u[:, :20], **first)
        with pytest.raises(ValueError, match=f"^{message}"):
            mixer.prefill(u[:, 20:], state=state)
        y, state = mixer.prefill(u[:, 20:24], state=state)
        assert_close(y, mixer(u[:, :24])[:, 20:], 1e-10)
    _, state = mixer.prefill(u[:, :20])
    message = "HyenaOperator.prefill: 23 positions and future=2 more exceed max_length 24"
    with pytest.raises(ValueError, match=f"^{message}"):
        mixer.prefill(u[:, 20:23], future=2, state=state)


@pytest.mark.parametrize("name", ["attention", "attention, grouped queries"])
@torch.no_grad()
def test_attention_takes_some_queries_at_a_time(
    name: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixer, u = build(name).eval(), draw(generator, 2, 60, D)
    whole = mixer(u)
    for pairs in (1, 60, 61, 200, 1 << 20):
        monkeypatch.setattr("hyena.mixers.attention.attention._PAIRS", pairs)
        assert_close(read(mixer, u, (7, 30, 23))[0], whole, 1e-10)


@pytest.mark.parametrize("plan", [{}, {"future": 2}])
@torch.no_grad()
def test_inputs_may_be_kept_in_fewer_bits(
    plan: dict[str, Any], long_filters: None, generator: torch.Generator
) -> None:
    mixer, u = hyena(3)(dtype=torch.float64).eval(), draw(generator, 2, 300, D)
    whole, last = mixer(u), 0.0
    for dtype, bound in ((torch.float32, 1e-7), (torch.bfloat16, 1e-2)):
        _, state = mixer.prefill(u[:, :100], keep_inputs=dtype, **plan)
        for piece in (u[:, 100:190], u[:, 190:200]):  # the second adds to what is kept
            y, state = mixer.prefill(piece, keep_inputs=dtype, **plan, state=state)
            assert state.long.inputs.dtype == dtype
            assert state.dtype == y.dtype == torch.float64
        assert state.long.inputs.shape[-1] == 200
        for t in range(200, 205):  # beyond the plan
            y, state = mixer.step(u[:, t], state)
        error = float((y - whole[:, 204]).norm() / whole[:, 204].norm())
        assert last < error < bound  # and of more bits is the state of more bits
        last = error
    _, state = mixer.prefill(u[:, :100])
    for dtype in (torch.bfloat16, torch.float64):
        y, state = mixer.prefill(u[:, 100:101], keep_inputs=dtype, state=state.copy())
        assert state.long.inputs.dtype == dtype


@each_mixer
@torch.no_grad()
def test_inputs_kept_in_what_is_no_dtype(name: str, generator: torch.Generator) -> None:
    mixer = build(name).eval()
    message = f"{type(mixer).__name__}.prefill: expected keep_inputs True, False or a dtype such as"
    for wrong in (torch.int64, torch.complex64, "bfloat16", 1, None):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
            mixer.prefill(draw(generator, 2, 5, D), keep_inputs=wrong)


@each_plan
@each_mixer
@torch.no_grad()
def test_autocast_may_come_and_go(
    name: str, plan: str, long_filters: None, generator: torch.Generator
) -> None:
    mixer, u = build(name, dtype=torch.float32).eval(), draw(generator, 2, 24, D).float()
    whole = mixer(u)
    for casts in ((True, True, True), (False, True, False), (True, False, True)):
        outputs, state = [], None
        for cast, piece in zip(casts, u.split([2, 12, 10], dim=1), strict=True):
            options = PLANS[plan] if state is None else {"state": state}
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                y, state = mixer.prefill(piece, **options)
            outputs.append(y.float())
        assert_close(torch.cat(outputs, dim=1), whole, 2e-2)
