"""Routes that show what the layers of the served model are, for the page and for others."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fastapi import APIRouter, HTTPException
from torch import Tensor

from hyena.data.nucleotide_tokenizers import of_nucleotides
from hyena.data.tokenizer import Tokenizer
from hyena.http.schema import Exact
from hyena.model import LanguageModel
from hyena.serving import Inspector, Layer

DIGITS = 4
"""Of the numbers in an answer, which are there to be drawn."""


class TokenizerFacts(Exact):
    """What the tokens are."""

    name: str
    kind: Literal["dna", "text"]


class ModelFacts(Exact):
    """What the model is."""

    parameters: int
    width: int
    """Channels of a layer."""
    context: int | None
    """The longest sequence; null if there is no end."""
    layers: list[Layer]
    """Each layer's mixer, and how many long convolutions a channel has there: 0 if it is no Hyena
    operator."""
    tokenizer: TokenizerFacts


class FilterQuestion(Exact):
    """A channel of a layer, both counted from 0."""

    layer: int
    channel: int
    length: int = 1024
    """Taps, of lags 0 … length − 1."""


class FilterAnswer(Exact):
    """The filters of a channel, in the order in which they are applied."""

    taps: list[list[float]]
    skip: list[float]
    """The weight of the direct path beside each filter."""


class MatrixQuestion(Exact):
    """A channel of a layer, both counted from 0, and what the model reads."""

    layer: int
    channel: int
    text: str


class MatrixAnswer(Exact):
    """|H(u)| of the text, L × L, or smaller by a maximum over neighbours."""

    tokens: list[str]
    """The L tokens of the text, each decoded alone."""
    cells: list[list[float]]
    """Row by row. Cell (i, j) of n × n is the largest value of the rows ⌊iL/n⌋ … ⌈(i+1)L/n⌉ − 1 and
    of the columns from j alike."""


def router(model: LanguageModel, tokenizer: Tokenizer) -> APIRouter:
    """The routes of a model, which an engine may serve at the same time."""
    inspector = Inspector(model, tokenizer)
    routes = APIRouter(prefix="/inspection", tags=["inspection"])

    @routes.get("/model")
    def facts() -> ModelFacts:
        """What the model is."""
        config = model.config
        return ModelFacts(
            parameters=model.parameter_count(),
            width=config.width,
            context=config.max_length if config.length_policy == "error" else None,
            layers=inspector.layers(),
            tokenizer=TokenizerFacts(
                name=tokenizer.name, kind="dna" if of_nucleotides(tokenizer) else "text"
            ),
        )

    @routes.post("/filter")
    def filter(asked: FilterQuestion) -> FilterAnswer:
        """The taps of a channel's filters."""
        with _refusals():
            taps, skip = inspector.filter(asked.layer, asked.channel, asked.length)
        return FilterAnswer(taps=_rows(taps), skip=_numbers(skip))

    @routes.post("/matrix")
    def matrix(asked: MatrixQuestion) -> MatrixAnswer:
        """The weights of each token's value in each output of a channel."""
        with _refusals():
            picture = inspector.matrix(asked.text, asked.layer, asked.channel)
        return MatrixAnswer(tokens=picture.tokens, cells=_rows(picture.cells))

    return routes


@contextmanager
def _refusals() -> Iterator[None]:
    """Mistakes of whoever asked are answered with status 400."""
    try:
        yield
    except ValueError as error:
        raise HTTPException(400, str(error)) from error


def _rows(values: Tensor) -> list[list[float]]:
    return [_numbers(row) for row in values]


def _numbers(values: Tensor) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values.tolist()]
