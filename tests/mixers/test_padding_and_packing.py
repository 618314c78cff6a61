"""Bidirectional operators: padded equals unpadded and packed equals separate, with all gradients.

What every causal mixer promises is in test_contract.py.
"""

from collections.abc import Callable, Sequence
from functools import partial

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor, nn

from hyena.mixers import HyenaOperator
from hyena.ops import Segments

D, M = 4, 20
Make = Callable[[], nn.Module]


MIXERS: dict[str, Make] = {
    f"{order}, {taps} taps": partial(
        HyenaOperator, D, M, order, short_width=taps, bidirectional=True, dtype=torch.float64
    )
    for order, taps in ((2, 3), (3, 5))
}
each_mixer = pytest.mark.parametrize("make", MIXERS.values(), ids=MIXERS)


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def separately(mixer: nn.Module, lengths: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Tokens (T, D) of documents end to end, each mixed on its own."""

    def run(tokens: Tensor) -> Tensor:
        return torch.cat([mixer(x[None])[0] for x in tokens.split(list(lengths))])

    return run


def padded(
    mixer: nn.Module, lengths: Sequence[int], left: Sequence[int], L: int, fill: float
) -> Callable[[Tensor], Tensor]:
    """The same, as rows of L with so much padding on the left and the rest on the right."""
    mask = torch.zeros(len(lengths), L, dtype=torch.bool)
    for row, (length, start) in enumerate(zip(lengths, left, strict=True)):
        mask[row, start : start + length] = True

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((len(lengths), L, D), fill, dtype=tokens.dtype)
        u = u.masked_scatter(mask[..., None], tokens)
        return mixer(u, mask=mask)[mask]

    return run


@pytest.mark.parametrize("fill", [0.0, 1e3, float("nan"), float("inf")])
@pytest.mark.parametrize("left", [(0, 0, 0), (6, 2, 12), (3, 1, 0)], ids=["right", "left", "both"])
@each_mixer
def test_padded_equals_unpadded(
    make: Make, left: tuple[int, ...], fill: float, generator: torch.Generator
) -> None:
    mixer, lengths = make(), (7, 11, 1)
    tokens = draw(generator, sum(lengths), D)
    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    run = padded(mixer, lengths, left, 13, fill)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-11)
    with torch.no_grad():
        mixer.eval()
        assert_close(run(tokens), expected[0], 1e-12)


LENGTHS = [(5, 1, 3, 9), (18,), (2, 2, 2, 3, 2, 2, 2, 3)]


@pytest.mark.parametrize("how", ["document_ids", "cu_seqlens", "Segments"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("batch", [1, 2])
@each_mixer
def test_packed_equals_separate(
    make: Make, batch: int, lengths: tuple[int, ...], how: str, generator: torch.Generator
) -> None:
    mixer, L = make(), sum(lengths) // batch
    tokens = draw(generator, sum(lengths), D)
    edges = torch.tensor([0, *lengths]).cumsum(0)
    ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).view(batch, L)
    segments = Segments.from_document_ids(ids)
    options = {
        "document_ids": {"document_ids": ids},
        "cu_seqlens": {"cu_seqlens": edges.int()},
        "Segments": {"document_ids": segments},
    }[how]
    pieces = [stop - start for _, start, stop in segments.spans]  # a row's end ends a document
    expected = with_module_gradients(mixer, separately(mixer, pieces), tokens)
    got = with_module_gradients(
        mixer, lambda u: mixer(u.view(batch, L, D), **options).flatten(0, 1), tokens
    )
    assert_all_close(got, expected, 1e-11)
    with torch.no_grad():
        mixer.eval()
        y = mixer(tokens.view(batch, L, D), **options).flatten(0, 1)
        assert_close(y, expected[0], 1e-12)


@each_mixer
def test_documents_do_not_see_one_another(make: Make, generator: torch.Generator) -> None:
    mixer, u = make(), draw(generator, 1, 12, D)
    ids = torch.tensor([[0] * 4 + [1] * 5 + [2] * 3])
    moved = u.clone()
    moved[:, 4:9] += 1e3
    change = (mixer(moved, document_ids=ids) - mixer(u, document_ids=ids)).detach()[0]
    others = torch.cat([change[:4], change[9:]])
    assert torch.equal(others, torch.zeros_like(others))
    assert bool(change[4:9].any(-1).all())
