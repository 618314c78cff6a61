"""A Hyena operator goes by groups of channels, but for inputs that the page on training names, and
what a group makes is gone before the next one's."""

import math
from typing import Any
from weakref import ref

import pytest
import torch
from comparison import assert_close
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from hyena import HyenaOperator
from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    LongFilter,
    ModalTaps,
    RealModalTaps,
    TransferFunctionTaps,
)
from hyena.mixers import CausalSelfAttention
from hyena.mixers.hyena import groups
from hyena.mixers.hyena.groups import Buffers, Input
from hyena.mixers.mixer import Room
from hyena.mixers.projections import channels_last
from hyena.ops import Segments
from hyena.ops.native import library

D, L = 8, groups.SHORTEST
WIDE = 48
MASK = torch.ones(1, L, dtype=torch.bool)
SEGMENTS = Segments.from_document_ids(torch.zeros(1, L, dtype=torch.int64))
ROOM = Room(None, False)


def operator(**options: Any) -> HyenaOperator:
    return HyenaOperator(D, L, **options).eval()


def few_taps(**options: Any) -> HyenaOperator:
    return operator(filter=LongFilter(ExplicitTaps(D, 3), D, L), **options)


class OnlyWhole(nn.Module):
    """A recurrence that cannot tell the state of some channels."""

    def __init__(self, channels: int, state: int) -> None:
        super().__init__()
        self.taps = DiagonalSSM(channels, state=state)

    def forward(self, length: int) -> Tensor:
        return self.taps(length)

    def recurrence(self) -> tuple[Tensor, Tensor]:
        return self.taps.recurrence()

    def state_after(self, u: Tensor, part: int) -> Tensor:
        return self.taps.state_after(u, part)


def recurrent(kind: Any = DiagonalSSM) -> HyenaOperator:
    return operator(filter=LongFilter(kind(D, state=4), D, L))


CASES: dict[str, tuple[bool, Any, dict[str, Any]]] = {
    "plain": (True, operator(), {}),
    "padding": (True, operator(), {"mask": MASK}),
    "documents": (True, operator(), {"segments": SEGMENTS}),
    "both": (False, operator(), {"mask": MASK, "segments": SEGMENTS}),
    "short": (False, operator(), {"length": L - 1}),
    "a prompt": (True, operator(), {"room": ROOM}),
    "from a state": (False, operator(), {"room": ROOM._replace(state=object())}),
    "recurrent": (True, recurrent(), {}),
    "recurrent, a prompt": (True, recurrent(), {"room": ROOM}),
    "recurrent as a whole, a prompt": (False, recurrent(OnlyWhole), {"room": ROOM}),
    "without biases": (True, operator(bias=False), {}),
    "few taps": (True, few_taps(), {}),
    "few taps, a prompt": (True, few_taps(bias=False), {"room": ROOM}),
    "both ways": (False, operator(bidirectional=True), {}),
    "another mixer": (False, CausalSelfAttention(D, head_dim=4), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_these_go_by_groups(case: str) -> None:
    expected, mixer, given = CASES[case]
    options = (given.get(name) for name in ("mask", "segments", "room"))
    got = groups.takes(mixer, given.get("length", L), *options)
    assert got is expected


def between(
    op: HyenaOperator, u: Tensor, mask: Tensor | None, room: Room | None, memory: int = 0
) -> None:
    """All of the operator up to its output projection, in so much memory."""
    L = u.shape[1]
    pieces = [(slice(0, 1), slice(i, min(i + 4096, L))) for i in range(0, L, 4096)]
    given = Input(1, L, pieces, lambda rows, positions: u[rows, positions])
    with torch.no_grad():
        groups.between_projections(op, given, mask, None, room, memory, Buffers())


def peak(op: HyenaOperator, u: Tensor, mask: Tensor | None, room: Room | None, memory: int) -> int:
    """Bytes of PyTorch's tensors at their most."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        between(op, u, mask, room, memory)
    now = most = 0
    for event in seen.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


class WithoutEnd(nn.Module):
    """Few taps that say nothing of their number."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.explicit = ExplicitTaps(WIDE, 3, filters=filters)

    def forward(self, length: int) -> Tensor:
        return self.explicit(length)

    def of_channels(self, length: int, channels: slice) -> Tensor:
        return self.explicit.of_channels(length, channels)


MADE: dict[str, Any] = {
    "few taps": lambda filters: ExplicitTaps(WIDE, 3, filters=filters),
    "without end": WithoutEnd,
    "real modes": lambda filters: RealModalTaps(WIDE, 3, filters=filters),
}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", ["direct", "padding", "a prompt that plans"])
@pytest.mark.parametrize("kind", ["few taps", "without end", "real modes"])
def test_channels_take_what_is_reckoned(
    kind: str, case: str, dtype: torch.dtype, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library.kernel() is None:
        pytest.skip(f"PyTorch's FFT takes more: {library.why_not()}")
    groups._keep_freed_memory()  # which the first call would, and take some for a moment
    monkeypatch.setattr("hyena.filters.exponentials._PART", 1)  # what a state takes for a moment
    L, planned = 1 << 14, 8 if case == "a prompt that plans" else 0
    taps = MADE[kind](order - 1)
    filter = LongFilter(taps, WIDE, L + planned, filters=order - 1)
    op = HyenaOperator(WIDE, L + planned, order, filter=filter).to(dtype).eval()
    u = torch.zeros(1, L, WIDE, dtype=dtype)
    mask = torch.arange(L)[None] > 0 if case == "padding" else None
    room = Room(planned, False) if planned else None
    way: groups.Way = "direct" if case == "direct" else "steps"
    each, row = groups.bytes_of_channel(op, 1, L + planned, dtype, way), L * dtype.itemsize
    shares = []
    for memory in (0, 48 * each):
        layout = groups.layout_of(op, 1, L + planned, memory, dtype, way)
        cut = [groups.shares_of(part, layout.share) for part in layout.groups]
        shares.append(max(len(range(WIDE)[part]) for parts in cut for part in parts))
        told = (WIDE + layout.beside) * row + shares[-1] * each
        got = peak(op, u, mask, room, memory)
        less = case == "padding" or (kind == "real modes" and way == "steps")  # nothing is planned
        assert (0.85 if less else 0.97) * told < got < 1.03 * told, (got / L, told / L)
    assert shares[0] < shares[1] or not each


@pytest.mark.parametrize("way", ["direct", "steps", "gradients"])
def test_taps_are_wide(way: groups.Way) -> None:
    of_taps = []
    for dtype in (torch.float32, torch.bfloat16):
        one, two = (groups.bytes_of_channel(operator(), B, L, dtype, way) for B in (1, 2))
        of_taps.append(2 * one - two)
    assert of_taps[0] == of_taps[1] >= 4 * L


@pytest.mark.parametrize("case", ["padding", "a prompt"])
def test_of_a_group_nothing_is_left_when_the_next_one_begins(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[Any] = []
    short_conv = groups.short_conv

    def seen(*arguments: Any) -> Tensor:
        assert not alive or alive[-1]() is None
        y = short_conv(*arguments)
        alive.append(ref(y))
        return y

    monkeypatch.setattr(groups, "short_conv", seen)
    mask, room = (MASK, None) if case == "padding" else (None, Room(None, False))
    between(operator(), torch.zeros(1, L, D), mask, room)
    assert len(alive) == D  # shares of one channel


@pytest.mark.parametrize("width", [1, 7, 8, 12, 256, 1000])
@pytest.mark.parametrize("order", [2, 3, 5])
def test_what_a_group_projects_fits_beside_the_output_of_those_before(
    width: int, order: int
) -> None:
    before = None
    for most in (10**9, order * width, 3 * width // 2, width // 2, width // 9, 0):
        for groups_at_most in (6, 2, 1):
            beside = groups.rows_beside(width, order, most, groups_at_most)
            sizes, left = groups.sizes_beside(width, order, beside), width
            for size in sizes:
                assert size > 0
                assert (order + 1) * size <= beside + left
                left -= size
            assert left == 0
            assert len(sizes) <= groups_at_most
            if len(sizes) == 1:
                assert beside == order * width
            step = order * math.gcd(width, 8)
            fewer = [groups.sizes_beside(width, order, rows) for rows in range(step, beside, step)]
            assert all(len(others) > len(sizes) for others in fewer)
            if groups_at_most == 6:
                assert before is None or beside <= before
                before = beside


def test_shares_are_of_one_size_and_equally_far_apart() -> None:
    for size in (1, 7, 24, 96):
        for most in (1, 5, 8, 96):
            parts = groups.shares_of(slice(3, 3 + size), most)
            found = [list(range(1000)[part]) for part in parts]
            assert sorted(n for part in found for n in part) == list(range(3, 3 + size))
            assert len({len(part) for part in found}) == 1
            assert {part.step for part in parts} == {len(parts)}
            assert len(found[0]) >= min(size, most // 2)
            if size % 8 == 0 and 8 * most >= size:  # as of most groups
                assert len(found[0]) <= most
    assert len(groups.shares_of(slice(0, 97), 12)) == 1


def test_the_largest_group_with_gradients_is_first() -> None:
    found = groups.groups_of(operator(), 1, L, 0, torch.float32)
    sizes = [part.stop - part.start for part in found]
    assert sizes == [1] * 8
    op = HyenaOperator(11, L)
    found = groups.groups_of(op, 1, L, 0, torch.float32)
    sizes = [part.stop - part.start for part in found]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 2
    assert sorted(n for part in found for n in range(part.start, part.stop)) == list(range(11))


def test_a_buffer_is_gone_before_there_is_a_larger_one() -> None:
    buffers, small = Buffers(), torch.zeros(1)
    first = ref(buffers.take("x", (4,), small)._base)

    class Larger:
        dtype, device = small.dtype, small.device

        def new_empty(self, size: int) -> Tensor:
            assert first() is None
            return small.new_empty(size)

    assert buffers.take("x", (5,), Larger()).shape == (5,)  # type: ignore[arg-type]


@pytest.mark.parametrize("room", [None, Room(None, False)])
def test_one_group_too_keeps_no_spectra(room: Room | None) -> None:
    op = operator()
    assert len(groups.layout_of(op, 1, L, 1 << 30, torch.float32, "direct").groups) == 1
    between(op, torch.zeros(1, L, D), None, room, 1 << 30)
    assert op.filter.kept.nbytes == 0


TAPS: dict[str, Any] = {
    "explicit": lambda filters: ExplicitTaps(D, 9, filters=filters, groups=2),
    "s4d": lambda filters: DiagonalSSM(D, state=4, filters=filters),
    "transfer function": lambda filters: TransferFunctionTaps(D, 3, filters=filters),
    "poles": lambda filters: ModalTaps(D, 3, filters=filters, groups=2),
    "real modes": lambda filters: RealModalTaps(D, 3, filters=filters),
}


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", TAPS)
@torch.no_grad()
def test_a_prompt_of_filters_whose_state_is_of_one_size(
    kind: str, order: int, bias: bool, generator: torch.Generator
) -> None:
    most = L + 1
    filter = LongFilter(TAPS[kind](order - 1), D, most, filters=order - 1)
    op = HyenaOperator(D, most, order, filter=filter, bias=bias).eval()
    u = torch.randn(2, L, D, generator=generator)
    y, state = op.prefill(u)
    given = Input(2, L, [(slice(0, 2), slice(0, L))], lambda rows, positions: u[rows, positions])
    with torch.inference_mode():
        room = Room(None, False)
        made = groups.between_projections(op, given, None, None, room, 0, Buffers())
        assert_close(channels_last(op.out_proj, made.y), y, 1e-5)
    found = made.state
    assert found is not None
    assert found.settings() == state.settings()
    for name, x in state.tensors().items():
        assert_close(found.tensors()[name], x, 1e-5)
    token = torch.randn(2, D, generator=generator)
    assert_close(op.step(token, found)[0], op.step(token, state)[0], 1e-5)
    longer = Input(1, most + 1, [], lambda rows, positions: u[rows, positions])
    with pytest.raises(
        ValueError, match=rf"^the input is {most + 1} long but max_length is {most}"
    ):
        groups.between_projections(op, longer, None, None, None, 0, Buffers())
