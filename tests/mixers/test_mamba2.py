"""Mamba-2 against its recurrence, and what is its own: chunks and decays of any size."""

import math

import pytest
import torch
from comparison import assert_all_close, assert_close, with_gradients, with_module_gradients
from torch import Tensor
from torch.nn import functional as F

from hyena.mixers.rivals.mamba2 import CHUNK, Mamba2
from hyena.mixers.rivals.scans.chunks import chunked

D = 6


def make(**options: int) -> Mamba2:
    mixer = Mamba2(D, **{"head_dim": 3, "state": 5, **options}, dtype=torch.float64)
    with torch.no_grad():
        mixer.step_bias.add_(3.0)  # so that a state forgets within a test's length
        mixer.skip.normal_()
    return mixer


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def ssd(
    x: Tensor, a: Tensor, write: Tensor, read: Tensor, ids: Tensor | None, size: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """`chunked` with heads that share what is written and read, and the last state."""
    heads = x.transpose(1, 2)
    v, h = chunked(read[:, None], write[:, None], heads, ids, size, a.transpose(1, 2))
    return v.transpose(1, 2), h[:, :, -1]


def recurrence(x: Tensor, a: Tensor, write: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    """`ssd` one position after the other."""
    h = x.new_zeros(x.shape[0], x.shape[2], write.shape[-1], x.shape[3])
    outputs = []
    for t in range(x.shape[1]):
        added = torch.einsum("bn,bhp->bhnp", write[:, t], x[:, t])
        h = a[:, t].exp()[..., None, None] * h + added
        outputs.append(torch.einsum("bn,bhnp->bhp", read[:, t], h))
    return torch.stack(outputs, dim=1), h


def definition(op: Mamba2, u: Tensor) -> Tensor:
    """The layer from its weights, one position, tap and head at a time."""
    inner, n, L = 2 * op.width, op.state, u.shape[1]
    z, inputs, step = (u @ op.in_proj.weight.t()).split([inner, inner + 2 * n, op.heads], dim=-1)
    rows = []
    for t in range(L):
        total = op.short_conv.bias
        for j in range(min(op.taps, t + 1)):
            total = total + op.short_conv.weight[:, j] * inputs[:, t - j]
        rows.append(total * torch.sigmoid(total))
    x, write, read = torch.stack(rows, dim=1).split([inner, n, n], dim=-1)
    x = x.unflatten(-1, (op.heads, op.head_dim))
    step = F.softplus(step + op.step_bias)
    v, _ = recurrence(step[..., None] * x, -step * op.log_decay.exp(), write, read)
    v = (v + op.skip[:, None] * x).flatten(2) * z * torch.sigmoid(z)
    v = v / (v.square().mean(-1, keepdim=True) + 1e-5).sqrt() * op.norm.weight
    return v @ op.out_proj.weight.t()


@pytest.mark.parametrize("L", [1, 2, 7, 63, 67, 130])
def test_equals_the_definition_with_every_gradient(L: int, generator: torch.Generator) -> None:
    op, u = make(), draw(generator, 2, L, D)
    expected = with_module_gradients(op, lambda u: definition(op, u), u)
    got = with_module_gradients(op, op, u)
    names = ["y", "u", *(name for name, _ in op.named_parameters())]
    for name, a, b in zip(names, got, expected, strict=True):
        if L == 1 and name == "log_decay":  # nothing has decayed yet
            assert not a.any()
        else:
            assert_close(a, b, 1e-10)


def pieces(generator: torch.Generator, L: int, decay: float) -> list[Tensor]:
    """x (2, L, 3, 4), a (2, L, 3) about −decay, write and read (2, L, 5)."""
    a = -decay * draw(generator, 2, L, 3).abs()
    return [draw(generator, 2, L, 3, 4), a, draw(generator, 2, L, 5), draw(generator, 2, L, 5)]


def together(found: tuple[Tensor, Tensor]) -> Tensor:
    return torch.cat([x.flatten() for x in found])


@pytest.mark.parametrize("size", [1, 2, 7, 16, 41, 64])
@pytest.mark.parametrize("decay", [1e-9, 0.1, 30.0])
def test_chunks_equal_the_recurrence(size: int, decay: float, generator: torch.Generator) -> None:
    arguments = pieces(generator, 41, decay)
    expected = with_gradients(lambda *x: together(recurrence(*x)), *arguments)
    got = with_gradients(lambda *x: together(ssd(*x, None, size)), *arguments)
    assert_all_close(got, expected, 1e-10)


@pytest.mark.parametrize("size", [3, 8, 64])
@pytest.mark.parametrize("lengths", [(20, 21), (3, 1, 30, 7), (8, 8, 16, 9)])
def test_documents_across_chunks(
    lengths: tuple[int, ...], size: int, generator: torch.Generator
) -> None:
    arguments = pieces(generator, 41, 0.1)
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).expand(2, -1)

    def apart(*arguments: Tensor) -> Tensor:
        documents = zip(*(x.split(lengths, dim=1) for x in arguments), strict=True)
        return torch.cat([recurrence(*document)[0] for document in documents], dim=1)

    expected = with_gradients(apart, *arguments)
    got = with_gradients(lambda *x: ssd(*x, ids, size)[0], *arguments)
    assert_all_close(got, expected, 1e-11)


@pytest.mark.parametrize("decay", [1e-6, 1.0, 1e4, 1e30])
def test_float32_for_decays_of_any_size(decay: float, generator: torch.Generator) -> None:
    arguments = [x.float() for x in pieces(generator, 200, decay)]
    expected = recurrence(*(x.double() for x in arguments))[0]
    got = with_gradients(lambda *x: ssd(*x, None)[0], *arguments)
    assert_close(got[0], expected, 1e-6, dtype=torch.float32)
    assert all(bool(x.isfinite().all()) for x in got)


@torch.no_grad()
def test_initial_values_are_the_authors() -> None:
    op = Mamba2(256, head_dim=1, dt_min=0.01, dt_max=0.02)
    rates, steps = op.log_decay.exp(), F.softplus(op.step_bias)
    assert 1 <= float(rates.min()) < 1.5
    assert 15.5 < float(rates.max()) <= 16
    assert 0.01 * 0.999 <= float(steps.min()) < float(steps.max()) <= 0.02 * 1.001
    assert float(steps.log().mean()) == pytest.approx(math.log(0.01 * 2**0.5), abs=0.1)
    assert bool((op.skip == 1).all())
    assert Mamba2(256).heads == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dt_min": 0.2}, r"expected 0 < dt_min ≤ dt_max, got dt_min=0\.2, dt_max=0\.1$"),
        ({"dt_min": 0.0}, r"expected 0 < dt_min ≤ dt_max, got dt_min=0\.0, dt_max=0\.1$"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Mamba2: {message}"):
        Mamba2(D, **options)  # type: ignore[arg-type]
