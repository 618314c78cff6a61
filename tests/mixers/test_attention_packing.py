"""Padded and packed attention without a mask: as under one, and in few calls."""

from collections.abc import Callable
from math import ceil, log2
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hyena.mixers import CausalSelfAttention
from hyena.mixers.attention.packing import Packing, packing_of
from hyena.ops import Segments

D = 8
Case = tuple[Tensor | None, Tensor | None]


class LooksOn(TorchDispatchMode):
    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return op(*args, **(kwargs or {}))


def make(**options: Any) -> CausalSelfAttention:
    op = CausalSelfAttention(D, head_dim=4, dtype=torch.float64, **options)
    with torch.no_grad():  # scores that differ
        op.in_proj.weight.mul_(3)
    return op


def ids(*rows: list[int]) -> Tensor:
    """(B, L) of the lengths of each row's documents."""
    return torch.stack([torch.arange(len(x)).repeat_interleave(torch.tensor(x)) for x in rows])


def padding(length: int, *rows: tuple[int, int]) -> Tensor:
    """(B, L), real from start to stop."""
    at = torch.arange(length)
    return torch.stack([(start <= at) & (at < stop) for start, stop in rows])


def holes(shape: tuple[int, int]) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(5)) < 0.6


CASES: dict[str, Callable[[], Case]] = {
    "padding on the left": lambda: (padding(37, (1, 37), (0, 37), (30, 37)), None),
    "padding on the right": lambda: (padding(37, (0, 36), (0, 1), (0, 37)), None),
    "padding on both sides": lambda: (padding(37, (3, 20), (4, 37), (0, 35)), None),
    "a row of padding": lambda: (padding(37, (0, 0), (5, 36)), None),
    "padding within": lambda: (holes((3, 37)), None),
    "no padding": lambda: (padding(37, (0, 37), (0, 37)), None),
    "one row": lambda: (padding(37, (1, 37)), None),
    "odd documents": lambda: (None, ids([17, 3, 17], [5, 21, 11], [37])),
    "one token each": lambda: (None, ids([1] * 37, [1] * 37)),
    "some of one token": lambda: (None, ids([1, 35, 1], [1, 1, 35])),
    "every length": lambda: (None, ids([*range(1, 41)], [*range(40, 0, -1)])),
    "documents and padding": lambda: (padding(37, (2, 37), (0, 30)), ids([17, 3, 17], [5, 21, 11])),
    "documents and padding within": lambda: (holes((2, 37)), ids([17, 3, 17], [5, 21, 11])),
    "documents of padding": lambda: (padding(37, (20, 37), (0, 5)), ids([17, 3, 17], [5, 21, 11])),
    "documents and no padding": lambda: (
        padding(37, (0, 37), (0, 37)),
        ids([17, 3, 17], [5, 21, 11]),
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def shape_of(case: Case) -> tuple[int, int]:
    mask, documents = case
    B, L = (documents if mask is None else mask).shape  # type: ignore[union-attr]
    return B, L


def drawn(case: Case, generator: torch.Generator) -> Tensor:
    return torch.randn(*shape_of(case), D, generator=generator, dtype=torch.float64)


def allowed(case: Case) -> Tensor:
    """(B, 1, L, L): who may look at whom, itself at least."""
    (mask, documents), (B, L) = case, shape_of(case)
    found = torch.ones(B, L, L, dtype=torch.bool).tril()
    if documents is not None:
        found &= documents[:, :, None] == documents[:, None, :]
    if mask is not None:
        found &= mask[:, None, :]
    return (found | torch.eye(L, dtype=torch.bool))[:, None]


def at_real(case: Case, y: Tensor) -> Tensor:
    return y if case[0] is None else y[case[0]]


def masked(op: CausalSelfAttention, case: Case) -> Callable[[Tensor], Tensor]:
    def run(u: Tensor) -> Tensor:
        q, k, v = op.heads_of(u if case[0] is None else u.masked_fill(~case[0][..., None], 0))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed(case))
        return at_real(case, op.out_proj(y.transpose(1, 2).flatten(2)))

    return run


def packed(op: CausalSelfAttention, case: Case) -> Callable[[Tensor], Tensor]:
    mask, documents = case
    return lambda u: at_real(case, op(u, mask=mask, document_ids=documents))


def test_as_under_a_mask_with_every_gradient(case: Case, generator: torch.Generator) -> None:
    op, u = make(), drawn(case, generator)
    expected = with_module_gradients(op, masked(op, case), u)
    assert_all_close(with_module_gradients(op, packed(op, case), u), expected, 1e-12)
    with torch.no_grad():
        assert_close(packed(op.eval(), case)(u), expected[0], 1e-12)


@pytest.mark.parametrize(
    "case", [name for name in CASES if "padding" in name or name == "one row"], indirect=True
)
def test_padding_is_finite_and_has_no_gradient(case: Case, generator: torch.Generator) -> None:
    mask, documents = case
    assert mask is not None
    op, u = make(), drawn(case, generator).masked_fill(~mask[..., None], float("nan"))
    u.requires_grad_()
    y = op(u, mask=mask, document_ids=documents)
    assert bool(y.isfinite().all())
    if not mask.all():
        found = torch.autograd.grad(y[~mask].sum(), [u, *op.in_proj.parameters()])
        assert not any(bool(x.any()) for x in found)


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")  # of PyTorch's kernel
def test_where_lengths_cannot_be_read_it_is_the_same(
    case: Case, generator: torch.Generator
) -> None:
    mask, documents = case
    op, u = make(), drawn(case, generator)
    expected = packed(op, case)(u)
    with LooksOn():
        assert_close(packed(op, case)(u), expected, 1e-12)

    def row(u: Tensor, mask: Tensor) -> Tensor:
        return op(u[None], mask=mask[None])[0]

    if mask is not None and documents is None:
        assert_close(at_real(case, torch.func.vmap(row)(u, mask)), expected, 1e-12)
    torch._dynamo.reset()
    compiled = torch.compile(op, backend="eager", fullgraph=True)
    y = compiled(u, mask=mask, document_ids=documents)
    assert_close(at_real(case, y), expected, 1e-12)


def test_a_batch_of_padding_alone(generator: torch.Generator) -> None:
    op, mask = make(), torch.zeros(2, 5, dtype=torch.bool)
    u = torch.full((2, 5, D), float("nan"), dtype=torch.float64, requires_grad=True)
    y = op(u, mask=mask)
    assert bool(y.isfinite().all())
    assert not bool(torch.autograd.grad(y.sum(), u)[0].any())


@pytest.mark.parametrize("shape", [(0, 5), (2, 0)])
def test_an_empty_batch(shape: tuple[int, int]) -> None:
    op, u = make(), torch.zeros(*shape, D, dtype=torch.float64)
    assert op(u, mask=torch.ones(shape, dtype=torch.bool)).shape == u.shape
    assert op(u, document_ids=torch.zeros(shape, dtype=torch.int64)).shape == u.shape


def test_dropout_is_of_training_alone(generator: torch.Generator) -> None:
    case = CASES["documents and padding"]()
    op, u = make(dropout=0.5), drawn(case, generator)
    plain = make()
    plain.load_state_dict(op.state_dict())
    assert torch.equal(packed(op.eval(), case)(u), packed(plain, case)(u))
    mask, documents = case
    assert mask is not None
    assert documents is not None
    many = mask.repeat(2000, 1), documents.repeat(2000, 1)
    torch.manual_seed(0)
    found = packed(op.train(), many)(u.repeat(2000, 1, 1)).unflatten(0, (2000, -1))
    assert not torch.equal(found[0], found[1])
    assert_close(found.mean(0), packed(plain, case)(u), 0.1)


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([4] * 4096, 1),
        ([1] * 16384, 1),
        ([16383, 16384], 1),
        ([*range(1, 17)], 16),
        ([1] * 65536, 2),
    ],
    ids=["tiny", "of one token", "nearly one length", "each its own", "more than CUDA takes"],
)
def test_groups(sizes: list[int], groups: int) -> None:
    assert len(Packing(ids(sizes)).groups) == groups


@pytest.mark.parametrize("sizes", [[*range(1, 181)], [*range(180, 0, -1)], [7, 1000, 1, 1100, 1]])
def test_documents_of_all_lengths_are_few_calls_and_little_padding(sizes: list[int]) -> None:
    groups = Packing(ids(sizes)).groups
    assert sum(documents for documents, _ in groups) == len(sizes)
    assert len(groups) <= 8 * ceil(log2(max(sizes)))
    assert sum(sizes) <= sum(a * b for a, b in groups) <= 1.125 * sum(sizes)


def test_layers_share_what_is_made_of_documents() -> None:
    segments = Segments.from_document_ids(ids([3, 4]))
    assert packing_of(None, segments) is packing_of(None, segments)
