"""Text to token ids and back, by the routes that lm-evaluation-harness asks, which are vLLM's."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from hyena.arguments import token_ids
from hyena.data.tokenizer import Tokenizer
from hyena.http.errors import RefusedError
from hyena.http.schema import Exact, Text, TokenId

END_OF_TEXT = "<|endoftext|>"
"""A prompt that is this and nothing else is the tokenizer's end of text, whatever its name there;
within a text these letters are as any other."""


class TokenizerInfo(Exact):
    """Of the tokenizer."""

    tokenizer_class: str
    eos_token: str
    bos_token: str
    pad_token: str | None = None
    chat_template: str | None = None


class TokenizeQuestion(Exact):
    """A text."""

    prompt: Text
    model: str | None = None
    add_special_tokens: bool = True
    """Put the end of text before it, as before the prompt of a completion."""


class TokenizeAnswer(Exact):
    """Its tokens."""

    tokens: list[int]
    count: int
    max_model_len: int | None
    """The longest sequence; null if there is no end."""


class DetokenizeQuestion(Exact):
    """Token ids."""

    tokens: Annotated[list[TokenId], Field(max_length=1 << 24)]
    model: str | None = None


class DetokenizeAnswer(Exact):
    """Their text."""

    prompt: str


def router(tokenizer: Tokenizer, context: int | None) -> APIRouter:
    """The routes of a tokenizer, of a model with this longest sequence."""
    routes = APIRouter(tags=["tokens"])

    @routes.get("/tokenizer_info")
    async def info() -> TokenizerInfo:
        """What the tokenizer is."""
        return TokenizerInfo(
            tokenizer_class=tokenizer.name, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT
        )

    @routes.post("/tokenize")
    def tokenize(asked: TokenizeQuestion) -> TokenizeAnswer:
        """The tokens of a text."""
        first = [tokenizer.end_of_text] if asked.add_special_tokens else []
        try:
            own = tokenizer.encode(asked.prompt).tolist()
        except ValueError as error:
            raise RefusedError(str(error), param="prompt") from error
        tokens = [tokenizer.end_of_text] if asked.prompt == END_OF_TEXT else first + own
        return TokenizeAnswer(tokens=tokens, count=len(tokens), max_model_len=context)

    @routes.post("/detokenize")
    def detokenize(asked: DetokenizeQuestion) -> DetokenizeAnswer:
        """The text of tokens."""
        try:
            tokens = token_ids("tokens", asked.tokens, tokenizer.vocab_size)
        except ValueError as error:
            raise RefusedError(str(error), param="tokens") from error
        return DetokenizeAnswer(prompt=tokenizer.decode(tokens))

    return routes
