"""What a completion may be asked for: OpenAI's fields, as far as they are supported."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=1 << 26)]
TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Exact(BaseModel):
    """Of the fields that it names and of their types: what else is sent is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class StreamOptions(Exact):
    """Of a streamed answer."""

    include_usage: bool = False
    """Send a last chunk without choices that says how many tokens there were."""


class CompletionQuestion(Exact):
    """`POST /v1/completions`. What is not named here is refused."""

    model: str
    """Its name, see `GET /v1/models`."""
    prompt: Text | list[TokenId] | list[Text] | list[list[TokenId]] = ""
    """A text, several, token ids, or several lists of them. Before a text stands the tokenizer's
    end of text, as before each document in training; ids are taken as they are."""
    max_tokens: Annotated[int, Field(ge=0)] | None = 16
    """At most so many tokens are added; 0 with `echo` reads the prompt alone."""
    temperature: Annotated[Finite, Field(ge=0, le=100)] | None = 1.0
    """Logits are divided by this; 0 takes the likeliest token."""
    top_p: Annotated[Finite, Field(gt=0, le=1)] | None = 1.0
    """Then keep the fewest likeliest tokens whose probabilities add up to this or more."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Keep only so many of the likeliest tokens. No field of OpenAI's."""
    min_p: Annotated[Finite, Field(gt=0, le=1)] | None = None
    """Keep only tokens so many times as probable as the likeliest, or more. No field of
    OpenAI's."""
    repetition_penalty: Annotated[Finite, Field(gt=0)] | None = None
    """Above 1, tokens of the prompt and of the answer are less likely. No field of OpenAI's."""
    logit_bias: dict[str, Finite] | None = None
    """What is added to the logits of some tokens, by their ids."""
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    """Answers to each prompt."""
    stop: Text | Annotated[list[Text], Field(max_length=16)] | None = None
    """Texts that end an answer and are no part of it."""
    seed: Annotated[int, Field(ge=-(2**62), lt=2**62)] | None = None
    """The same seed gives the same answer: answer i of all is drawn with seed + i."""
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    """Say how likely each token was, and which were the likeliest, so many."""
    echo: bool | None = False
    """Put the prompt before the answer."""
    stream: bool | None = False
    """Send tokens as they come, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Of a streamed answer."""
    user: str | None = None
    """Changes nothing; OpenAI's servers count by it."""
    best_of: Literal[1] | None = None
    """Not supported but for 1."""
    frequency_penalty: Literal[0] | Annotated[float, Field(ge=0, le=0)] | None = None
    """Not supported but for 0."""
    presence_penalty: Literal[0] | Annotated[float, Field(ge=0, le=0)] | None = None
    """Not supported but for 0."""
