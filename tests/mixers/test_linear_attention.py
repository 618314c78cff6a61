"""Linear attention: in chunks, token by token, and as every product of a query and a key."""

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients, with_module_gradients
from rival_definitions import linear_attention
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers import LinearAttention
from hyena.mixers.rivals.linear_attention import features
from hyena.mixers.rivals.scans.chunks import chunked

D = 8


def make(head_dim: int = 4, dtype: torch.dtype = torch.float64) -> LinearAttention:
    op = LinearAttention(D, head_dim=head_dim, dtype=dtype)
    with torch.no_grad():  # features that differ
        op.in_proj.weight.mul_(3)
    return op


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("head_dim", [1, 2, 4, 8])
@pytest.mark.parametrize("L", [1, 2, 7, 15, 16, 17, 33, 100])
def test_equals_the_definition_with_every_gradient(
    L: int, head_dim: int, generator: torch.Generator
) -> None:
    op, u = make(head_dim), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: linear_attention(op, u), u)
    assert_all_close(with_module_gradients(op, op, u), expected, 1e-11)


@pytest.mark.parametrize("size", [1, 3, 16, 64])
def test_the_size_of_chunks_changes_nothing(size: int, generator: torch.Generator) -> None:
    q, k, v = (draw(generator, 2, 3, 40, n) for n in (4, 4, 5))
    ids = torch.arange(40).floor_divide(torch.tensor([[7], [19]]))
    for documents in (None, ids):
        expected = with_gradients(lambda *x: chunked(*x, documents, 40)[0], q, k, v)  # noqa: B023
        got = with_gradients(lambda *x: chunked(*x, documents, size)[0], q, k, v)  # noqa: B023
        assert_all_close(got, expected, 1e-13)


def test_sums_after_a_prompt_are_those_of_its_tokens(generator: torch.Generator) -> None:
    q, k, v = (draw(generator, 2, 3, 40, n) for n in (4, 4, 5))
    for size in (7, 40):
        assert_close(chunked(q, k, v, None, size)[1][:, :, -1], k.transpose(2, 3) @ v, 1e-13)


@pytest.mark.parametrize("prompt", [1, 16, 50])
def test_chunks_equal_the_recurrence(prompt: int, generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 2, 100, D)
    with torch.no_grad():
        y, state = op.prefill(u[:, :prompt])
        outputs = [y]
        for t in range(prompt, 100):
            y, state = op.step(u[:, t], state)
            outputs.append(y[:, None])
        assert_close(torch.cat(outputs, dim=1), op(u), 1e-12)


@pytest.mark.parametrize("lengths", [(70, 30), (3, 60, 1, 36), (16, 16, 32, 36), (5,) * 20])
def test_documents_of_many_chunks(lengths: tuple[int, ...], generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 1, 100, D)
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    expected = with_module_gradients(
        op, lambda u: torch.cat([op(x) for x in u.split(lengths, dim=1)], dim=1), u
    )
    got = with_module_gradients(op, lambda u: op(u, document_ids=ids), u)
    assert_all_close(got, expected, 1e-11)


def test_features_are_those_of_the_paper(generator: torch.Generator) -> None:
    x = torch.cat([3 * draw(generator, 50), torch.zeros(1, dtype=torch.float64)])
    expected = with_gradients(lambda x: F.elu(x) + 1, x)
    assert_all_close(with_gradients(features, x), expected, 1e-14)
    x = torch.tensor([-20.0, -80.0])
    assert_close(features(x), x.double().exp(), 1e-5, dtype=torch.float32)


def test_features_that_vanish_give_no_nan(generator: torch.Generator) -> None:
    op, u = make(dtype=torch.float32), draw(generator, 1, 20, D).float()
    with torch.no_grad():
        op.in_proj.bias[: 2 * D] = -1000.0
    got = with_module_gradients(op, op, u)
    assert all(bool(x.isfinite().all()) for x in got)


def test_the_default_head_dim() -> None:
    assert LinearAttention(192).heads == 3
    assert LinearAttention(32).head_dim == 32
