"""Packed documents are separate documents, and padded rows are unpadded ones, gradients too."""

from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from small_models import PATTERNS, STRIPES, gradients, small_model, tokens
from torch import Tensor

from hyena.model import FilterConfig, LanguageModel

EXACT = 1e-10
TRAINED = FilterConfig(emb_dim=5, width=6, sine_freq=3.0, train_encoding=True, train_decay=True)
CHANGES: list[dict[str, Any]] = [{}, {"filter": TRAINED}, STRIPES]
LENGTHS = [5, 1, 6, 12]  # of documents in two rows of 12: the first row holds three


def build(mixers: str, changes: dict[str, Any]) -> LanguageModel:
    """In training mode, where filters take part in the gradient."""
    return small_model(mixers, **changes).train()


def weights_of(logits: Tensor) -> Tensor:
    """A fixed random weight for each logit, the same for a token wherever it stands."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(logits.shape, generator=generator, dtype=logits.dtype)


def separately(
    model: LanguageModel, documents: list[Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Logits of each document on its own, and the gradients of all together."""
    logits = [model(document[None])[0] for document in documents]
    joined = torch.cat(logits)
    (joined * weights_of(joined)).sum().backward()
    return [y.detach() for y in logits], gradients(model)


def check(model: LanguageModel, together: list[Tensor], documents: list[Tensor]) -> None:
    """``together``: the logits of the documents out of one batch."""
    joined = torch.cat(together)
    (joined * weights_of(joined)).sum().backward()
    batched = gradients(model)
    expected, expected_gradients = separately(model, documents)
    for got, wanted in zip(together, expected, strict=True):
        assert_close(got, wanted, EXACT)
    for name, wanted in expected_gradients.items():
        assert_close(batched[name], wanted, EXACT)


@pytest.mark.parametrize("changes", CHANGES, ids=["computed", "trained", "striped"])
@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("how", ["document_ids", "cu_seqlens"])
def test_packed_documents_are_separate_documents(
    mixers: str, changes: dict[str, Any], how: str
) -> None:
    model = build(mixers, changes)
    documents = [tokens(length, seed=i) for i, length in enumerate(LENGTHS)]
    rows = torch.cat(documents).view(2, 12)
    edges = torch.tensor(LENGTHS).cumsum(0)
    if how == "cu_seqlens":
        logits = model(rows, cu_seqlens=torch.cat([torch.zeros(1, dtype=torch.int64), edges]))
    else:
        ids = torch.repeat_interleave(torch.tensor([7, 9, 3, 3]), torch.tensor(LENGTHS))
        logits = model(rows, document_ids=ids.view(2, 12))
    together = list(logits.flatten(0, 1).split(LENGTHS))
    check(model, together, documents)


@pytest.mark.parametrize("changes", CHANGES, ids=["computed", "trained", "striped"])
@pytest.mark.parametrize("mixers", PATTERNS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_unpadded_rows(mixers: str, changes: dict[str, Any], side: str) -> None:
    model = build(mixers, changes)
    documents = [tokens(length, seed=i) for i, length in enumerate((12, 5, 1))]
    rows = tokens(3, 12, seed=9)  # padding holds any ids
    mask = torch.zeros(3, 12, dtype=torch.bool)
    for row, document in enumerate(documents):
        L = len(document)
        where = slice(12 - L, 12) if side == "left" else slice(0, L)
        rows[row, where], mask[row, where] = document, True
    logits = model(rows, mask=mask)
    together = [logits[row, mask[row]] for row in range(3)]
    check(model, together, documents)


@pytest.mark.parametrize("mixers", PATTERNS)
def test_without_being_told_documents_and_padding_do_leak(mixers: str) -> None:
    # Else the tests above would prove nothing.
    model, rows = build(mixers, {}), tokens(1, 12)
    with torch.no_grad():
        whole = model(rows)
        alone = model(rows[:, 5:])
        packed = model(rows, document_ids=(torch.arange(12) >= 5).long()[None])
    assert_close(packed[:, 5:], alone, EXACT)
    assert relative_error(whole[:, 5:], alone) > 1e-2
