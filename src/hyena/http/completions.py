"""`POST /v1/completions`: OpenAI's answers, whole or as a stream."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter
from fastapi import Request as Asked
from fastapi.responses import Response, StreamingResponse

from hyena.data.tokenizer import Tokenizer
from hyena.generation.prompts import prompt_ids
from hyena.generation.results import Event, Finished
from hyena.generation.sampling import Alternatives, Sampling
from hyena.generation.text_stream import TextStream
from hyena.http.errors import Answer, RefusedError, described
from hyena.http.listener import GoneError, Listener
from hyena.http.schema import CompletionQuestion
from hyena.http.settings import Settings
from hyena.serving import Engine, Failure, PromptScores, Request

_REASONS: dict[Finished | None, str | None] = {
    None: None,
    "length": "length",
    "stop": "stop",
    "end of text": "stop",
}
_CLOSING = "the server is closing; ask again later"


def router(engine: Engine, tokenizer: Tokenizer, name: str, settings: Settings) -> APIRouter:
    """The route of completions by an engine whose model is called ``name``."""
    routes = APIRouter(tags=["completions"])

    @routes.post("/v1/completions", response_model=None)
    async def completions(asked: CompletionQuestion, connection: Asked) -> Response:
        """Continues prompts."""
        if asked.model != name:
            raise RefusedError(
                f"there is no model {asked.model!r}; this is {name!r}", status=404, param="model"
            )
        prompts = await asyncio.to_thread(_prompts, asked, tokenizer, engine, settings)
        requests = _requests(asked, prompts, engine)
        listener = Listener(engine, settings.unread)
        try:
            listener.submit(requests)
        except ValueError as error:
            raise RefusedError(str(error)) from error
        except RuntimeError as error:  # the engine has been closed
            raise RefusedError(_CLOSING, status=503) from error
        completion = Completion(asked, prompts, tokenizer, name)
        if asked.stream:
            chunks = _events(completion, listener)
            return StreamingResponse(chunks, media_type="text/event-stream", headers=_UNBUFFERED)
        return await _whole(completion, listener, connection)

    return routes


_UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Prompt:
    """One of a request's prompts."""

    tokens: list[int]
    """What the model reads."""
    first: int
    """How many of them are no part of what was given: 1 with an end of text before, else 0."""


def _prompts(
    asked: CompletionQuestion, tokenizer: Tokenizer, engine: Engine, settings: Settings
) -> list[Prompt]:
    given: Any = asked.prompt
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        given = [given]
    if not given:
        raise RefusedError("prompt: expected at least one prompt, got none", param="prompt")
    if len(given) > settings.prompts:
        raise RefusedError(
            f"prompt: expected at most {settings.prompts} prompts, got {len(given)}; ask for them "
            "in several requests",
            param="prompt",
        )
    found = []
    try:
        for prompt in given:
            (ids,) = prompt_ids([prompt], tokenizer, engine.model.config.vocab_size)
            found.append(Prompt(ids, 1 if isinstance(prompt, str) else 0))
    except ValueError as error:
        raise RefusedError(str(error), param="prompt") from error
    return found


def _requests(
    asked: CompletionQuestion, prompts: Sequence[Prompt], engine: Engine
) -> list[Request]:
    choices = asked.n or 1
    seed = secrets.randbelow(1 << 32) if asked.seed is None else asked.seed
    echo, new = bool(asked.echo), 16 if asked.max_tokens is None else asked.max_tokens
    if new == 0 and not echo:
        raise RefusedError(
            "max_tokens: expected at least 1 without echo, got 0", param="max_tokens"
        )
    if asked.stream_options is not None and not asked.stream:
        raise RefusedError(
            "stream_options: expected none without stream; leave them out", param="stream_options"
        )
    try:
        sampling = Sampling(
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_p=None if asked.top_p in (None, 1) else asked.top_p,
            top_k=asked.top_k,
            min_p=asked.min_p,
            repetition_penalty=asked.repetition_penalty or 1.0,
            logit_bias={_token(key): value for key, value in (asked.logit_bias or {}).items()},
        )
        return [
            Request(
                prompt.tokens,
                new,
                sampling,
                seed=seed + i * choices,
                choices=choices,
                stop=asked.stop or (),
                alternatives=asked.logprobs or 0,
                score_prompt=echo and asked.logprobs is not None,
            )
            for i, prompt in enumerate(prompts)
        ]
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _token(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise RefusedError(
            f"logit_bias: expected token ids as keys, got {key!r}", param="logit_bias"
        )
    return int(key)


@dataclass
class Choice:
    """One answer as it grows: what has not been handed out."""

    text: str = ""
    offset: int = 0
    """Characters that were handed out before."""
    tokens: list[str] = field(default_factory=list)
    token_logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[str, float] | None] = field(default_factory=list)
    text_offset: list[int] = field(default_factory=list)
    finish_reason: str | None = None

    def add(self, token: str, logprob: float | None, others: dict[str, float] | None) -> None:
        """A token, whose text comes next."""
        self.tokens.append(token)
        self.token_logprobs.append(logprob)
        self.top_logprobs.append(others)
        self.text_offset.append(self.offset + len(self.text))


class Completion:
    """What is answered to one request, of which all answers grow at once."""

    def __init__(
        self,
        asked: CompletionQuestion,
        prompts: Sequence[Prompt],
        tokenizer: Tokenizer,
        model: str,
    ) -> None:
        self._asked, self._prompts, self._tokenizer = asked, prompts, tokenizer
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        self._each = asked.n or 1
        self.choices = [Choice() for _ in prompts for _ in range(self._each)]
        self._open = len(self.choices)
        self._new = 0
        if asked.echo and asked.logprobs is None:
            for choice, prompt in zip(self.choices, self._of_each(prompts), strict=True):
                choice.text = tokenizer.decode(prompt.tokens[prompt.first :])

    @property
    def finished(self) -> bool:
        """Whether all answers have come to their end."""
        return not self._open

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a count of tokens."""
        options = self._asked.stream_options
        return options is not None and options.include_usage

    def take(self, i: int, delivery: Event | PromptScores | Failure) -> list[int]:
        """What prompt i's request is handed.

        Returns: the answers that have more to hand out now.
        Raises: RefusedError if there will be no more of it.
        """
        if isinstance(delivery, Failure):
            raise RefusedError(
                f"the model failed: {type(delivery.error).__name__}", status=500
            ) from delivery.error
        if isinstance(delivery, PromptScores):
            places = list(range(i * self._each, (i + 1) * self._each))
            for place in places:
                self._echo(self.choices[place], self._prompts[i], delivery)
            return places
        if delivery.finished == "cancelled":
            raise RefusedError(_CLOSING, status=503)
        place = i * self._each + delivery.index
        choice = self.choices[place]
        if delivery.token is not None:
            self._new += 1
            if self._asked.logprobs is not None:
                choice.add(
                    self._shown(delivery.token), delivery.logprob, self._dict(delivery.alternatives)
                )
        choice.text += delivery.text
        if delivery.finished is not None:
            choice.finish_reason = _REASONS[delivery.finished]
            self._open -= 1
        return [place]

    def body(self, places: Sequence[int], *, usage: bool = False) -> dict[str, Any]:
        """What has been added to some answers since the last time."""
        found = {**self._head, "choices": [self._handed_out(place) for place in places]}
        if usage or not self._asked.stream:
            read = sum(len(prompt.tokens) for prompt in self._prompts)
            found["usage"] = {
                "prompt_tokens": read,
                "completion_tokens": self._new,
                "total_tokens": read + self._new,
            }
        elif self.wants_usage:
            found["usage"] = None
        return found

    def _handed_out(self, place: int) -> dict[str, Any]:
        choice = self.choices[place]
        logprobs = None
        if self._asked.logprobs is not None:
            names = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
            logprobs = {name: getattr(choice, name) for name in names}
        rest = Choice(offset=choice.offset + len(choice.text))
        self.choices[place] = rest
        return {
            "index": place,
            "text": choice.text,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
        }

    def _echo(self, choice: Choice, prompt: Prompt, scores: PromptScores) -> None:
        first, text = prompt.first, TextStream(self._tokenizer, [])
        known = (prompt.tokens, scores.logprobs, scores.alternatives)
        for token, logprob, others in zip(*(each[first:] for each in known), strict=True):
            choice.add(self._shown(token), logprob, self._dict(others) if others else None)
            choice.text += text.feed(token)
        choice.text += text.close()

    def _of_each(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        return [prompt for prompt in prompts for _ in range(self._each)]

    def _dict(self, alternatives: Alternatives) -> dict[str, float]:
        return {self._shown(token): value for token, value in alternatives}

    def _shown(self, token: int) -> str:
        """A token as text; one that is none alone, as the byte of a longer character, by its id."""
        text = self._tokenizer.decode([token])
        return f"token_id:{token}" if not text or "\ufffd" in text else text


async def _whole(completion: Completion, listener: Listener, connection: Asked) -> Response:
    watching = asyncio.create_task(listener.watch(connection.receive))
    try:
        async with listener:
            async for i, delivery in listener.each():
                completion.take(i, delivery)
                if completion.finished:
                    break
    except GoneError:  # nobody reads this
        return Response(status_code=499)
    finally:
        watching.cancel()
    return Answer(completion.body(range(len(completion.choices))))


async def _events(completion: Completion, listener: Listener) -> AsyncIterator[str]:
    """Server-sent events. What goes wrong on the way is the last one but ``[DONE]``."""
    async with listener:
        try:
            async for i, delivery in listener.each():
                for place in completion.take(i, delivery):
                    yield _event(completion.body([place]))
                if completion.finished:
                    break
            if completion.wants_usage:
                yield _event(completion.body([], usage=True))
        except GoneError:
            return
        except RefusedError as error:
            yield _event(described(error.message, error.status))
        yield "data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, allow_nan=False)}\n\n"
