"""Perplexity per token and bits per byte of a language model over whole documents."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hyena.arguments import check_whole, shown
from hyena.evaluation.documents import checked, token_ids
from hyena.evaluation.losses import Model, check_model, evaluated, target_losses

_WAITING = 64  # windows for each of a batch that wait for others of their length


@dataclass(frozen=True)
class Evaluation:
    """Result of `evaluate`.

    Attributes:
        loss_nats_per_token: mean negative log-likelihood of a target.
        perplexity: its exponential.
        bits_per_byte: negative log2-likelihood of all targets divided by the bytes of the text.
            Unlike perplexity it can be compared between tokenizers. The end of each document is
            a target too, so this is the length of a code from which all the texts, and where each
            ends, could be restored.
        tokens: targets scored: the documents' tokens, and one end_of_text for each.
        bytes: length of the documents in UTF-8 bytes.
        documents: their number.
    """

    loss_nats_per_token: float
    perplexity: float
    bits_per_byte: float
    tokens: int
    bytes: int
    documents: int


class Window(NamedTuple):
    """One window of a document; positions count inputs, and target i follows input i.

    Attributes:
        start: first input.
        score_from: first target that this window scores; those before it are context.
        end: one past the last input.
    """

    start: int
    score_from: int
    end: int


def sliding_windows(targets: int, *, length: int, stride: int) -> Iterator[Window]:
    """Windows of at most ``length`` inputs that together score each of ``targets`` targets once.

    The first window scores all its targets. Each next one starts ``stride`` later and scores the
    targets that are new, its last ``stride`` (the very last window: those that are left), so they
    have ``length − stride`` tokens of context or more. ``stride = length`` gives windows that are
    independent of one another.

    Raises: ValueError unless 1 <= stride <= length.
    """
    length = check_whole("evaluate: length", length)
    stride = check_whole("evaluate: stride", stride, None)
    targets = check_whole("evaluate: targets", targets, 0, 2**63)
    if not 1 <= stride <= length:
        raise ValueError(
            f"stride: expected 1 to length, got stride={shown(stride)}, length={length}"
        )
    scored = 0
    for start in range(0, targets, stride):
        end = min(start + length, targets)
        yield Window(start, scored, end)
        scored = end
        if end == targets:
            return


class _Item(NamedTuple):
    """One window's inputs and targets, of which those from ``score_from`` on count."""

    tokens: NDArray[np.int64]
    score_from: int


def evaluate(
    model: Model,
    documents: Iterable[tuple[NDArray[Any], int]],
    *,
    length: int,
    stride: int,
    batch: int = 8,
    device: torch.device | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Scores every target of every document once, in windows of ``length`` moved by ``stride``.

    Each document is scored on its own, from its own end_of_text on. The model runs in eval mode
    and without gradients; its mode is restored.

    Args:
        model: ``model(ids) -> logits``; a `LanguageModel`, which makes only the logits that are
            scored, and not all of a long window at once; or any callable.
        documents: pairs of tokens (end_of_text, the document's tokens, end_of_text) and the UTF-8
            bytes of its text, such as ``open_tokens(...).documents()`` or ``tokenize(...)``.
        length: most inputs of a window, 1 or more.
        stride: from one window to the next, 1 ... length; the smaller, the more context the
            targets have (at least length − stride tokens, after the first window) and the longer
            it takes.
        batch: windows of one length at a time, 1 or more. Changes nothing but the speed.
        device: where the model is; its first parameter's device by default.
        progress: called after each batch with the documents read and targets scored so far.

    Returns: the figures over all targets; perplexity is inf where it is no finite float.
    Raises: TypeError if the model cannot be called; ValueError if an argument is out of range,
        there are no documents or a document has no tokens, or a target is outside the vocabulary.
    """
    check_model(model)
    batch = check_whole("evaluate: batch", batch)
    next(sliding_windows(1, length=length, stride=stride))  # a bad stride is told before any work
    n_documents = n_bytes = n_targets = 0
    nats = 0.0

    def items() -> Iterator[_Item]:
        nonlocal n_documents, n_bytes
        for tokens, count, size in checked(documents):
            n_documents += 1
            n_bytes += size
            for window in sliding_windows(count - 1, length=length, stride=stride):
                piece = token_ids(tokens, window.start, window.end + 1)
                yield _Item(piece, window.score_from - window.start)

    with evaluated(model, device) as where:
        for chunk in _of_one_length(items(), batch):
            nats += _score(model, chunk, where)
            n_targets += sum(len(item.tokens) - 1 - item.score_from for item in chunk)
            if progress is not None:
                progress(n_documents, n_targets)
    if not n_documents:
        raise ValueError("evaluate: there are no documents to evaluate")
    loss = nats / n_targets
    return Evaluation(
        loss_nats_per_token=loss,
        perplexity=math.exp(loss) if loss < 709 else math.inf,
        bits_per_byte=nats / math.log(2) / n_bytes if n_bytes else math.nan,
        tokens=n_targets,
        bytes=n_bytes,
        documents=n_documents,
    )


def _of_one_length(items: Iterable[_Item], batch: int) -> Iterator[list[_Item]]:
    """The items in batches without padding, which learned positions and some filters refuse."""
    waiting: dict[int, list[_Item]] = {}
    count = 0
    for item in items:
        length = len(item.tokens)
        waiting.setdefault(length, []).append(item)
        count += 1
        if count > _WAITING * batch:
            length = max(waiting, key=lambda n: len(waiting[n]))
        elif len(waiting[length]) < batch:
            continue
        chunk = waiting.pop(length)
        count -= len(chunk)
        yield chunk
    yield from waiting.values()


def _score(model: Model, items: list[_Item], device: torch.device) -> float:
    """Negative log-likelihood in nats of the scored targets of items of one length."""
    tokens = torch.from_numpy(np.stack([item.tokens for item in items]))
    starts = torch.tensor([[item.score_from] for item in items])
    scored = torch.arange(tokens.shape[1] - 1) >= starts
    return float(target_losses(model, tokens, scored, device).sum())
