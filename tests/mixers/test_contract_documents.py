"""Padded equals unpadded and packed equals separate, for every mixer, with all gradients."""

from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, with_module_gradients
from mixer_cases import BIDIRECTIONAL, CASES, D, build, draw, padded, separately
from torch import Tensor

from hyena.ops import Segments

each_kind = pytest.mark.parametrize("name", [*CASES, *BIDIRECTIONAL])


@pytest.mark.parametrize("left", [(0, 0, 0), (6, 2, 12), (3, 1, 0)], ids=["right", "left", "both"])
@each_kind
def test_padded_equals_unpadded(
    name: str, left: tuple[int, ...], generator: torch.Generator
) -> None:
    mixer, lengths = build(name), (7, 11, 1)
    tokens = draw(generator, sum(lengths), D)
    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    for fill in (1e3, float("nan"), float("inf")):
        run = padded(mixer.train(), lengths, left, 13, fill)
        assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)
        with torch.no_grad():
            mixer.eval()
            assert_close(run(tokens), expected[0], 1e-11)


@each_kind
def test_a_row_of_padding_changes_nothing(name: str, generator: torch.Generator) -> None:
    mixer, tokens = build(name), draw(generator, 5, D)
    run = padded(mixer, (5, 0), (0, 0), 5, float("nan"))
    expected = with_module_gradients(mixer, lambda u: mixer(u[None])[0], tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


@pytest.mark.parametrize("lengths", [(5, 1, 3, 9), (18,), (2, 2, 2, 3, 2, 2, 2, 3)], ids=str)
@each_kind
def test_packed_equals_separate(
    name: str, lengths: tuple[int, ...], generator: torch.Generator
) -> None:
    mixer = build(name)
    tokens = draw(generator, sum(lengths), D)
    edges = torch.tensor([0, *lengths]).cumsum(0)
    for batch in (1, 2):
        L = sum(lengths) // batch
        ids = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).view(batch, L)
        segments = Segments.from_document_ids(ids)
        pieces = [stop - start for _, start, stop in segments.spans]  # a row's end ends a document
        expected = with_module_gradients(mixer, separately(mixer, pieces), tokens)
        ways: list[dict[str, Any]] = [
            {"document_ids": ids},
            {"cu_seqlens": edges.int()},
            {"document_ids": segments},
        ]
        for options in ways:

            def packed(u: Tensor, shape: Any = (batch, L, D), options: Any = options) -> Tensor:
                y: Tensor = mixer(u.view(shape), **options)
                return y.flatten(0, 1)

            assert_all_close(with_module_gradients(mixer, packed, tokens), expected, 1e-10)
            with torch.no_grad():
                assert_close(mixer.eval() and packed(tokens), expected[0], 1e-11)
            mixer.train()


@each_kind
def test_packed_and_padded_at_once(name: str, generator: torch.Generator) -> None:
    mixer, lengths = build(name), (4, 6, 3)
    tokens = draw(generator, sum(lengths), D)
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 3:] = False
    ids = torch.tensor([[0] * 4 + [1] * 6, [2] * 3 + [9] * 7])

    def run(tokens: Tensor) -> Tensor:
        u = torch.full((2, 10, D), float("nan"), dtype=tokens.dtype)
        u = u.masked_scatter(mask[..., None], tokens)
        return mixer(u, mask=mask, document_ids=ids)[mask]

    expected = with_module_gradients(mixer, separately(mixer, lengths), tokens)
    assert_all_close(with_module_gradients(mixer, run, tokens), expected, 1e-10)


@each_kind
def test_documents_do_not_see_one_another(name: str, generator: torch.Generator) -> None:
    mixer, u = build(name), draw(generator, 1, 12, D)
    ids = torch.tensor([[0] * 4 + [1] * 5 + [2] * 3])
    moved = u.clone()
    moved[:, 4:9] += 1e3
    change = (mixer(moved, document_ids=ids) - mixer(u, document_ids=ids)).detach()[0]
    others = torch.cat([change[:4], change[9:]])
    assert torch.equal(others, torch.zeros_like(others))
    assert bool(change[4:9].any(-1).all())
