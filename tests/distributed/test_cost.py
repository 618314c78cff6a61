"""What a step is reckoned to send and to keep, against what ranks sent and kept."""

from __future__ import annotations

import math
from typing import Any

import pytest
from cost_cases import KEPT, SENT, Shape
from ranks import RANKS, run_ranks

from hyena.distributed import cost
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.memory import activation_bytes
from hyena.ops.native import library

Ranks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    # What is small has memory of its own too: glibc would keep it in a heap with gaps.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 16))
        return run_ranks("cost_cases", tmp_path_factory.mktemp("ranks"))


def parts(shape: Shape) -> dict[str, int]:
    return {"shard": RANKS if shape.shard else 1}


def reckoned(shape: Shape) -> float:
    """Bytes that a rank sends in a step."""
    model = shape.build("meta")
    replicas = 1 if shape.shard else RANKS
    traffic = cost.of_parameters(model, **parts(shape), replicas=replicas, micro_batches=1)
    context = RANKS if shape.context else 1
    sizes = {"rows": shape.rows, "length": shape.length}
    pieces = cost.of_rows(model, context=context, **sizes, itemsize=4, packed=False)
    return sum(each.bytes for each in [*traffic, pieces])


@pytest.mark.parametrize("name", SENT)
def test_a_step_sends_what_is_reckoned(found: Ranks, name: str) -> None:
    """What sends most at most as much; all of them together nearly so."""
    each = [rank[f"sent {name}"] for rank in found]
    assert not any(isinstance(rank, str) or rank["unknown"] for rank in each), each
    most = max(rank["bytes"] for rank in each)
    assert most == pytest.approx(reckoned(SENT[name]), rel=0.1)


@pytest.mark.parametrize("name", KEPT)
def test_a_step_takes_the_memory_that_is_reckoned(found: Ranks, name: str) -> None:
    if library.kernel() is None:
        pytest.skip(f"PyTorch's FFT takes more: {library.why_not()}")
    shape = KEPT[name]
    model, pieces = shape.build("meta"), RANKS if shape.context else 1
    told = cost.kept_bytes(model, **parts(shape)) + cost.gathered_bytes(model, **parts(shape))
    told += activation_bytes(model, shape.length, shape.rows, processes=pieces)
    if not shape.shard:
        told += sum(p.nbytes for p in model.parameters())
    for rank in found:
        kept = rank[f"kept {name}"]
        if isinstance(kept, str):
            pytest.skip(kept)
        assert kept == pytest.approx(told, rel=0.1), f"{kept / 2**20:.1f}, not {told / 2**20:.1f}"


def of_width(width: int, **changes: Any) -> LanguageModel:
    return LanguageModel(ModelConfig(width=width, layers=2, **changes), device="meta")


def test_bytes_by_hand() -> None:
    """A ring of four sends three quarters; parts are gathered twice and reduced once a micro
    batch."""
    model = of_width(8)
    n = 4 * model.parameter_count()
    (whole,) = cost.of_parameters(model, shard=1, replicas=4, micro_batches=5)
    assert (whole.bytes, whole.processes, whole.apart) == (2 * 3 / 4 * n, 4, 1)
    within, between = cost.of_parameters(model, shard=1 + 1, replicas=3, micro_batches=5)
    padded = sum(4 * (p.shape[0] + p.shape[0] % 2) * p[0].numel() for p in model.parameters())
    assert within.bytes == 5 * 3 * padded / 2
    assert between.bytes == pytest.approx(5 * 2 * 2 / 3 * padded / 2)
    assert (within.apart, between.apart) == (1, 2)


def test_frozen_parameters_are_gathered_and_no_more() -> None:
    model = of_width(8)
    model.requires_grad_(False)
    (whole,) = cost.of_parameters(model, shard=1, replicas=2, micro_batches=1)
    assert whole.bytes == 0
    within, between = cost.of_parameters(model, shard=2, replicas=2, micro_batches=1)
    assert within.bytes > 0 == between.bytes
    assert cost.kept_bytes(model, 1) == 4 * model.parameter_count()


def test_a_part_is_of_whole_rows() -> None:
    """Of a parameter of one row, such as the direct path's, each process has room for one."""
    model = of_width(8)
    rows = {p.shape[0] for p in model.parameters()}
    assert 1 in rows
    least = 4 * 4 * model.parameter_count() / 64
    assert cost.kept_bytes(model, 64) > least
    assert math.isclose(cost.kept_bytes(model, 1), 64 * least)


@pytest.mark.parametrize("order", [2, 3])
def test_what_rows_send_is_the_long_convolutions(order: int) -> None:
    """Forward and backward: 2 · (N − 1) · D numbers a token and layer, of which (P − 1)/P go."""
    model, length = of_width(8, order=order), 2**20
    sent = cost.of_rows(model, context=4, rows=3, length=length, itemsize=4, packed=False)
    least = 2 * 2 * 3 * length / 4 * 2 * (order - 1) * 8 * 4 * 3 / 4
    assert least <= sent.bytes <= 1.001 * least


def test_rows_that_cannot_be_cut() -> None:
    options = {"context": 16, "rows": 1, "length": 64, "itemsize": 4, "packed": False}
    with pytest.raises(ValueError, match=r"16 processes for the 8 channels of blocks\.0\.mixer"):
        cost.of_rows(of_width(8), **options)
    with pytest.raises(ValueError, match=r"blocks\.0\.mixer is a RWKV"):
        cost.of_rows(of_width(8, mixers="rwkv"), **{**options, "context": 2})


def test_documents_keep_states_from_being_carried() -> None:
    model = of_width(8, filter=FilterConfig(kind="modal", modes=2))
    options = {"context": 2, "rows": 1, "length": 4096, "itemsize": 4}
    carried = cost.of_rows(model, **options, packed=False)
    assert 100 * carried.bytes < cost.of_rows(model, **options, packed=True).bytes


def test_states_are_as_wide_as_the_filter_and_all_else_as_what_is_sent() -> None:
    model = of_width(8, filter=FilterConfig(kind="modal", modes=2))
    options = {"context": 2, "rows": 1, "length": 4096, "packed": False}
    sent = [cost.of_rows(model, **options, itemsize=size).bytes for size in (2, 4)]
    short = 2 * 3 * 8 * 2  # of two layers and, of three inputs and 8 channels, two positions
    states = 2 * 8 * 2 * 8  # of two layers and 8 channels, two complex numbers
    assert sent == [states + 2 * short, states + 4 * short]
