"""Perplexity per token and bits per byte of a language model over whole documents."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.arguments import IGNORE, check_whole, plural, shown
from hyena.filters.evaluation_mode import evaluation_mode
from hyena.ops.arguments import checked_device
from hyena.ops.observed import is_hooked

# B batch, L length of its windows, V vocabulary.

Model = Callable[..., Tensor]
"""``model(ids (B, L) int64) -> logits (B, L, V)``."""

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
    if not callable(model):
        raise TypeError(f"evaluate: expected a model that can be called, got {model!r:.40}")
    batch = check_whole("evaluate: batch", batch)
    next(sliding_windows(1, length=length, stride=stride))  # a bad stride is told before any work
    where = checked_device("evaluate", device) if device is not None else _device_of(model)
    n_documents = n_bytes = n_targets = 0
    nats = 0.0

    def items() -> Iterator[_Item]:
        nonlocal n_documents, n_bytes
        for document in _each(documents):
            tokens, count, size = _checked(n_documents, document)
            n_documents += 1
            n_bytes += size
            for window in sliding_windows(count - 1, length=length, stride=stride):
                piece = _token_ids(tokens, window.start, window.end + 1)
                yield _Item(piece, window.score_from - window.start)

    mode = evaluation_mode(model) if isinstance(model, nn.Module) else nullcontext()
    with mode, torch.no_grad():
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


def _each(documents: Any) -> Iterator[Any]:
    try:
        return iter(documents)
    except TypeError as error:
        raise _no_documents(documents) from error


def _no_documents(found: object) -> ValueError:
    return ValueError(
        f"evaluate: expected documents (tokens, bytes of the text), got {shown(found)}"
    )


def _checked(index: int, document: Any) -> tuple[Any, int, int]:
    """A document's tokens, how many they are, and the bytes of its text."""
    if not isinstance(document, tuple | list) or len(document) != 2:
        raise _no_documents(document)
    tokens, size = document
    size = check_whole("evaluate: bytes of a text", size, 0, 2**63)
    try:
        count = len(tokens)
    except TypeError as error:
        raise _no_tokens(tokens) from error
    if count < 2:
        raise ValueError(
            f"evaluate: document {index} has {count} {plural(count, 'token')}; a document is "
            "end_of_text, its tokens, end_of_text"
        )
    return tokens, count, size


def _token_ids(tokens: Any, start: int, end: int) -> NDArray[np.int64]:
    """Some of a document's. Raises: ValueError if they are no whole numbers from 0 on."""
    try:
        found = np.asarray(tokens[start:end])
    except (TypeError, ValueError, RuntimeError) as error:  # such as rows of several lengths
        raise _no_tokens(tokens) from error
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise _no_tokens(tokens)
    ids = found.astype(np.int64)  # those of uint64 beyond 2^63 become negative
    if ids.min() < 0:
        raise _no_tokens(tokens)
    return ids


def _no_tokens(found: object) -> ValueError:
    return ValueError(f"evaluate: expected token ids, 0 or more, got {shown(found)}")


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


def _score(model: Any, items: list[_Item], device: torch.device) -> float:
    """Negative log-likelihood in nats of the scored targets of items of one length."""
    tokens = torch.from_numpy(np.stack([item.tokens for item in items]))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    scored = torch.arange(inputs.shape[1]) >= torch.tensor([[i.score_from] for i in items])
    if _has_losses(model):
        losses = model.token_losses(inputs.to(device), targets.masked_fill(~scored, IGNORE))
    else:
        losses = _losses(model(inputs.to(device)), targets[scored], scored.to(device))
    # Sums in float64 on the CPU: MPS has no float64.
    total = float(losses.cpu().double().sum())
    if math.isnan(total):  # an infinite loss is that of a model which rules a target out
        raise ValueError("evaluate: the model's logits are not finite; its weights may be damaged")
    return total


def _has_losses(model: Any) -> bool:
    """Whether a model has a way to losses without all logits, and its call does nothing else: a
    subclass or a wrapper may have a forward of its own, and hooks may change logits."""
    return "token_losses" in vars(type(model)) and not is_hooked(model)


def _losses(logits: Tensor, wanted: Tensor, scored: Tensor) -> Tensor:
    """Of the targets wanted where logits (B, L, V) are scored, (B, L) bool."""
    vocabulary = logits.shape[-1]
    if int(wanted.max()) >= vocabulary:
        raise ValueError(
            f"evaluate: token id {int(wanted.max())} is outside the model's vocabulary of "
            f"{vocabulary}; was the text prepared with another tokenizer?"
        )
    # Only the scored rows are widened: the whole (B, L, V) in float32 can be gigabytes.
    chosen = logits[scored]
    if chosen.dtype in (torch.float16, torch.bfloat16):
        chosen = chosen.float()
    return F.cross_entropy(chosen, wanted.to(chosen.device), reduction="none")


def _device_of(model: Model) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
