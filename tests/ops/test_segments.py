"""Where documents lie in a packed batch."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hyena.ops import Backend, Segments, backends, gated_conv, long_conv


def of_ids(*rows: list[int]) -> Segments:
    return Segments.from_document_ids(torch.tensor(rows))


def test_spans_and_ids() -> None:
    segments = of_ids([5, 5, 2, 2, 2], [1, 1, 1, 1, 1])
    assert segments.spans == ((0, 0, 2), (0, 2, 5), (1, 0, 5))
    assert segments.ids.tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert segments.columns.tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 4]]
    assert segments.longest == 5
    assert not segments.trivial


def test_an_id_that_comes_back_is_another_document() -> None:
    segments = of_ids([3, 0, 3])
    assert segments.spans == ((0, 0, 1), (0, 1, 2), (0, 2, 3))
    assert segments.ids.tolist() == [[0, 1, 2]]


def test_one_document_a_row_is_trivial() -> None:
    assert of_ids([7, 7, 7], [7, 7, 7]).trivial


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (0, 0)])
def test_empty_batches(shape: tuple[int, int]) -> None:
    for segments in (
        Segments.from_document_ids(torch.zeros(shape, dtype=torch.int64)),
        Segments.from_cu_seqlens(torch.zeros(1, dtype=torch.int64), *shape),
    ):
        assert segments.spans == ()
        assert segments.ids.shape == shape
        assert segments.longest == 0
        assert segments.trivial


@given(rows=st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=3))
def test_spans_cover_the_rows_in_order_and_ids_change_only_between_them(
    rows: list[list[int]],
) -> None:
    segments = of_ids(*rows)
    covered = [(row, t) for row, start, stop in segments.spans for t in range(start, stop)]
    assert covered == [(row, t) for row in range(len(rows)) for t in range(6)]
    for row, start, stop in segments.spans:
        assert len(set(rows[row][start:stop])) == 1
        assert len(set(segments.ids[row, start:stop].tolist())) == 1
    for row in segments.ids.tolist():
        assert row[0] == 0
        assert all(b - a in (0, 1) for a, b in pairwise(row))


@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(lambda x: sum(x) > 0),
    data=st.data(),
)
def test_cumulative_lengths_say_the_same_as_ids(lengths: list[int], data: st.DataObject) -> None:
    total = sum(lengths)
    batch = data.draw(st.sampled_from([b for b in range(1, total + 1) if total % b == 0]))
    edges = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    a = Segments.from_cu_seqlens(edges, batch, total // batch)
    b = Segments.from_document_ids(ids.view(batch, -1))
    assert a.spans == b.spans
    assert torch.equal(a.ids, b.ids)


def test_int32_is_accepted() -> None:
    assert Segments.from_cu_seqlens(torch.tensor([0, 2, 6], dtype=torch.int32), 2, 3).spans == (
        (0, 0, 2),
        (0, 2, 3),
        (1, 0, 3),
    )
    assert Segments.from_document_ids(torch.tensor([[1, 2]], dtype=torch.int32)).longest == 1


def test_documents_that_vmap_maps_are_refused_in_one_line() -> None:
    ids, edges = torch.tensor([[0, 0, 1], [0, 1, 1]]), torch.tensor([[0, 2, 3], [0, 1, 3]])
    u, k = torch.ones(2, 1, 3), torch.ones(1, 3)

    def of_ids(u: Tensor, ids: Tensor) -> Tensor:
        return long_conv(u[None], k, segments=Segments.from_document_ids(ids[None]))

    def of_edges(u: Tensor, edges: Tensor) -> Tensor:
        return long_conv(u[None], k, segments=Segments.from_cu_seqlens(edges, 1, 3))

    for name, call, mapped in (("document_ids", of_ids, ids), ("cu_seqlens", of_edges, edges)):
        message = (
            f"^Segments: torch.func.vmap maps {name}, so that there are no values to read; map "
        )
        with pytest.raises(ValueError, match=message):
            torch.func.vmap(call)(u, mapped)
        together = torch.func.vmap(call, (0, None))(u, mapped[0])
        assert torch.equal(together[:, 0], torch.tensor([[[1.0, 2.0, 1.0]]] * 2))


@pytest.mark.parametrize(
    "ids", [torch.zeros(3, dtype=torch.int64), torch.zeros(2, 3), torch.zeros(1, 2, 3).long()]
)
def test_ids_that_are_none(ids: torch.Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"^document_ids: expected an integer tensor \(B, L\), got"
    ):
        Segments.from_document_ids(ids)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.tensor([[0, 6]]), r"expected integers \(documents \+ 1,\), got \(1, 2\)"),
        (torch.tensor([0.0, 6.0]), r"expected integers .* of torch.float32"),
        (torch.zeros(0, dtype=torch.int64), r"expected integers .* got \(0,\)"),
        (torch.tensor([1, 6]), r"from 0 to B·L = 6, got 1 … 6$"),
        (torch.tensor([0, 5]), r"from 0 to B·L = 6, got 0 … 5$"),
        (torch.tensor([0, 7]), r"from 0 to B·L = 6, got 0 … 7$"),
        (torch.tensor([0, 4, 2, 6]), r"got 0 … 6, which decrease somewhere$"),
        (torch.tensor([0, 9, 6]), r"which decrease somewhere$"),
        (torch.tensor([0, -3, 6]), r"which decrease somewhere$"),
        (torch.tensor([0, 1 << 62, 6]), r"which decrease somewhere$"),
    ],
)
def test_cumulative_lengths_that_are_none(values: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^cu_seqlens: .*{message}"):
        Segments.from_cu_seqlens(values, 2, 3)


@pytest.mark.parametrize(("batch", "length"), [(-1, 3), (1 << 70, 1), (1 << 40, 1 << 40)])
def test_sizes_that_are_none(batch: int, length: int) -> None:
    with pytest.raises(ValueError, match=r"^Segments: expected batch.* from 0 to 2\^48, got"):
        Segments.from_cu_seqlens(torch.tensor([0, 6]), batch, length)


@pytest.mark.cpu
def test_segments_on_another_device() -> None:
    segments = Segments.from_document_ids(torch.zeros(2, 6, dtype=torch.int64, device="meta"))
    u, k = torch.zeros(2, 3, 6), torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"^long_conv: u is on cpu but the segments are on meta"):
        long_conv(u, k, segments=segments)
    with pytest.raises(ValueError, match=r"^Segments: document_ids are on meta, without values"):
        assert segments.trivial
    with pytest.raises(ValueError, match=r"^Segments: cu_seqlens are on meta, without values"):
        Segments.from_cu_seqlens(torch.tensor([0, 6], device="meta"), 2, 3)


class Counted(TorchDispatchMode):
    """How many ops run, and how many bytes they make; views make none."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = self.bytes = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        y = op(*args, **(kwargs or {}))
        self.ops += 1
        if not any(x.alias_info for x in op._schema.returns):
            self.bytes += sum(x.nbytes for x in tree_leaves(y) if isinstance(x, torch.Tensor))
        return y


def work_of(lengths: list[int], backend: Backend) -> tuple[int, int, int]:
    """Nodes of autograd's graph; ops forward and backward; bytes that these make."""
    L, D = sum(lengths), 8
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    z, k = torch.ones(1, 3 * D, L, requires_grad=True), torch.ones(D, L, requires_grad=True)
    taps = torch.ones(3 * D, 3, requires_grad=True)
    with Counted() as counted:
        segments = Segments.from_document_ids(ids)
        y = gated_conv(z, k, short=(taps, None), segments=segments, backend=backend)
        found, ahead = set(), [y.grad_fn]
        while ahead:
            node = ahead.pop()
            if node is not None and node not in found:
                found.add(node)
                ahead += [before for before, _ in node.next_functions]
        y.sum().backward()
    return len(found), counted.ops, counted.bytes


@pytest.mark.parametrize("backend", [name for name in backends() if name != "naive"])
def test_many_documents_are_as_much_work_as_few(backend: Backend) -> None:
    """No node, op or copy of the batch is a document's own; the kernel itself is one op in this."""
    *few, bytes_of_few = work_of([120, 120], backend)
    *many, bytes_of_many = work_of([2] * 120, backend)
    assert many == few
    assert bytes_of_many < 1.25 * bytes_of_few


@pytest.mark.parametrize("backend", [name for name in backends() if name != "naive"])
def test_documents_of_many_lengths_are_work_in_proportion(backend: Backend) -> None:
    lengths = list(range(1, 16))  # 120 positions
    *once, bytes_once = work_of(lengths, backend)
    *often, bytes_often = work_of(8 * lengths, backend)
    assert often == once
    assert bytes_often < 8.5 * bytes_once
    *longer, _ = work_of(list(range(16, 100)), backend)  # lengths that are near go together
    assert all(x < 2 * y for x, y in zip(longer, once, strict=True))
