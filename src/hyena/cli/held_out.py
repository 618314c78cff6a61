"""The text that a model is measured on."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

from hyena.cli.bar import bar
from hyena.data import (
    PrepareConfig,
    TokenDocument,
    Tokenizer,
    find_source,
    is_prepared,
    open_tokens,
)
from hyena.data.documents import WithoutText, with_tokens
from hyena.evaluation import Evaluation, evaluate
from hyena.model import LanguageModel

Split = Literal["train", "validation", "test"]


class HeldOut(NamedTuple):
    """Documents as tokens, what to call them, and how many targets they have if that is known.

    Once they have been read, ``notes`` gives what of the text was left out.
    """

    documents: Iterator[TokenDocument]
    name: str
    targets: int | None
    notes: Callable[[], list[str]]


def held_out(
    data: Path, split: Split, field: str | None, model: LanguageModel, tokenizer: Tokenizer
) -> HeldOut:
    """Documents of a folder of token files or of a text.

    Args:
        data: a folder written by `hyena prepare`, or text as that takes it.
        split: of the former.
        field: of rows that holds the text, None for that of `hyena prepare`.
        model, tokenizer: that the tokens have to fit.

    Raises: FileNotFoundError if there are none; ValueError if they do not fit.
    """
    if is_prepared(data):
        if field is not None:
            raise ValueError(f"field is of rows of text, but {data} holds tokens; leave it out")
        tokens = open_tokens(data, split)
        tokens.check_tokenizer(tokenizer)
        tokens.check_vocabulary(model.config.vocab_size)
        return HeldOut(tokens.documents(), f"{data} ({split})", len(tokens) - 1, list)
    read = PrepareConfig(str(data), "", field=field or PrepareConfig.field).text_fields(tokenizer)
    source, without = find_source(str(data), read), WithoutText()
    documents = (found for _, found in with_tokens(source.documents(), tokenizer, without))
    return HeldOut(documents, str(data), None, lambda: [*without.notes(), *source.notes])


def measure(
    model: LanguageModel,
    text: HeldOut,
    *,
    length: int,
    stride: int,
    batch: int,
    documents: int | None = None,
) -> Evaluation:
    """Evaluates under a bar: all of the text's documents, or so many."""
    targets = text.targets if documents is None else None
    with bar() as report:
        return evaluate(
            model,
            islice(text.documents, documents),
            length=length,
            stride=stride,
            batch=batch,
            progress=lambda n, done: report(done, targets, n),
        )
