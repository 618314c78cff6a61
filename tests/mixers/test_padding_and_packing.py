"""Padded equals unpadded and packed equals separate, for every mixer, with all gradients."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from torch import Tensor, nn

from hyena.filters import HyenaFilter
from hyena.mixers import RWKV, AFTConv, CausalSelfAttention, HyenaOperator, LinearAttention
from hyena.ops import Segments

D, M = 4, 20
Make = Callable[[], nn.Module]


def hyena(order: int, **options: Any) -> Make:
    return lambda: HyenaOperator(D, M, order, dtype=torch.float64, **options)


def trained_table() -> nn.Module:
    filter = HyenaFilter(D, M, train_encoding=True, dtype=torch.float64)
    return HyenaOperator(D, M, filter=filter)


def aft_conv(taps: int) -> AFTConv:
    mixer = AFTConv(D, taps=taps, dtype=torch.float64)
    with torch.no_grad():  # which begin at zero
        mixer.gain.normal_()
        mixer.offset.normal_()
    # To all in the window it is the same, so where nothing is outside, its gradient is rounding.
    mixer.offset.requires_grad_(False)
    return mixer


MIXERS: dict[str, Make] = {
    "hyena 2": hyena(2),
    "hyena 3": hyena(3, short_width=5),
    "hyena 2, naive": hyena(2, backend="naive"),
    "hyena 3, bidirectional": hyena(3, bidirectional=True),
    "attention": lambda: CausalSelfAttention(D, head_dim=2, dtype=torch.float64),
    "linear attention": lambda: LinearAttention(D, head_dim=2, dtype=torch.float64),
    "RWKV": lambda: RWKV(D, dtype=torch.float64),
    "AFT-conv": lambda: aft_conv(4),
    "AFT-conv, long window": lambda: aft_conv(32),
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


@each_mixer
def test_a_row_of_padding_changes_nothing(make: Make, generator: torch.Generator) -> None:
    mixer, tokens = make(), draw(generator, 5, D)
    run = padded(mixer, (5, 0), (0, 0), 5, float("nan"))
    expected = with_module_gradients(mixer, lambda u: mixer(u[None])[0], tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-11)


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
def test_packed_and_padded_at_once(make: Make, generator: torch.Generator) -> None:
    mixer, lengths = make(), (4, 6, 3)
    tokens = draw(generator, sum(lengths), D)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 3:] = False
    ids = torch.tensor([[0] * 4 + [1] * 6, [2] * 3 + [9] * 7])

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((2, 10, D), float("nan"), dtype=tokens.dtype)
        u = u.masked_scatter(mask[..., None], tokens)
        return mixer(u, mask=mask, document_ids=ids)[mask]

    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-11)


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


def test_a_trained_table_is_read_from_its_start_in_every_document(
    generator: torch.Generator,
) -> None:
    mixer, tokens = trained_table().double(), draw(generator, 12, D)
    with torch.no_grad():
        mixer.filter.encoding.normal_(generator=generator)
    ids = torch.tensor([[0] * 5 + [1] * 7])
    expected = with_module_gradients(mixer, separately(mixer, (5, 7)), tokens)
    got = with_module_gradients(mixer, lambda u: mixer(u[None], document_ids=ids)[0], tokens)
    assert_all_close(got, expected, 1e-11)


@each_mixer
def test_arguments_that_do_not_fit(make: Make) -> None:
    mixer = make()
    name = type(mixer).__name__
    u = torch.zeros(2, 6, D, dtype=torch.float64)
    ids = torch.zeros(2, 6, dtype=torch.int64)
    edges = torch.tensor([0, 12])
    mask = torch.ones(2, 6, dtype=torch.bool)
    for message, bad, options in [
        (f"{name}: expected u (B, L, 4), got (2, 6, 3)", u[..., :3], {}),
        (f"{name}: expected u (B, L, 4), got (6, 4)", u[0], {}),
        (
            f"{name}: expected mask of bool (B, L) = (2, 6), True at real tokens; "
            "got (2, 6) of torch.float32",
            u,
            {"mask": mask.float()},
        ),
        (f"{name}: expected mask of bool (B, L) = (2, 6), True", u, {"mask": mask[:, :5]}),
        (f"{name}: expected mask of bool (B, L) = (2, 6), True", u, {"mask": mask[None]}),
        (
            f"{name}: give document_ids or cu_seqlens, not both",
            u,
            {"document_ids": ids, "cu_seqlens": edges},
        ),
        (
            f"{name}: expected document_ids (B, L) = (2, 6), got (1, 6)",
            u,
            {"document_ids": ids[:1]},
        ),
        (
            f"{name}: expected document_ids (B, L) = (2, 6), got (2, 5)",
            u,
            {"document_ids": Segments.from_document_ids(ids[:, :5])},
        ),
        ("document_ids: expected an integer tensor (B, L)", u, {"document_ids": ids.float()}),
        ("cu_seqlens: expected increasing values from 0 to B·L = 12", u, {"cu_seqlens": edges - 1}),
    ]:
        with pytest.raises(ValueError, match="^" + re.escape(message)):
            mixer(bad, **options)
