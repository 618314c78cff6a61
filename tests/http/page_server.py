"""The page and its routes on this machine, with completions by an engine as the page asks for
them."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException as AnyHTTPException

from hyena import serving
from hyena.data import Tokenizer
from hyena.generation import Event, Sampling
from hyena.http import inspection, page
from hyena.model import LanguageModel


@contextmanager
def page_of(model: LanguageModel, tokenizer: Tokenizer) -> Iterator[str]:
    """The address of a server of a model, which ends with the context."""
    engine = serving.Engine(model, tokenizer)
    server = uvicorn.Server(
        uvicorn.Config(_application(model, tokenizer, engine), port=0, log_level="warning")
    )
    thread = threading.Thread(target=server.run)
    engine.start()
    thread.start()
    while not server.started:
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join()
    engine.close()


def _application(model: LanguageModel, tokenizer: Tokenizer, engine: serving.Engine) -> FastAPI:
    application = FastAPI()
    application.include_router(page.router())
    application.include_router(inspection.router(model, tokenizer))

    @application.exception_handler(AnyHTTPException)
    def refused(_: Request, error: AnyHTTPException) -> JSONResponse:
        return _error(error.status_code, str(error.detail))

    @application.exception_handler(RequestValidationError)
    def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return _error(400, str(error))

    @application.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "small", "object": "model"}]}

    @application.post("/v1/completions", response_model=None)
    def completions(asked: dict[str, Any]) -> dict[str, Any] | StreamingResponse:
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        prompt = [int(token) for token in tokenizer.encode(asked["prompt"])]
        sampling = Sampling(temperature=asked["temperature"], top_p=asked.get("top_p", 1))
        request = serving.Request(
            prompt,
            asked["max_tokens"],
            sampling,
            seed=asked.get("seed", 0),
            alternatives=asked["logprobs"],
        )
        try:
            ticket = engine.submit(request, events.put)
        except ValueError as error:
            raise HTTPException(400, str(error)) from error

        def chunks() -> Iterator[dict[str, Any]]:
            count = 0
            try:
                for event in iter(events.get, None):
                    count += 1
                    yield {"choices": [_choice(event, tokenizer)]}
                    if event.finished:
                        break
            finally:
                ticket.cancel()
            yield {"choices": [], "usage": {"prompt_tokens": len(prompt)}}

        if asked.get("stream"):
            return StreamingResponse(_sent(chunks()), media_type="text/event-stream")
        choices = [chunk["choices"][0] for chunk in chunks() if chunk["choices"]]
        logprobs = {
            name: [one for each in choices for one in each["logprobs"][name]]
            for name in ("tokens", "token_logprobs", "top_logprobs")
        }
        text = "".join(each["text"] for each in choices)
        return {"choices": [{"text": text, "logprobs": logprobs}]}

    return application


def _choice(event: Event, tokenizer: Tokenizer) -> dict[str, Any]:
    """Of one token, in the shape of OpenAI's completions."""
    assert event.token is not None
    likeliest = {tokenizer.decode([token]): value for token, value in event.alternatives}
    return {
        "index": 0,
        "text": event.text,
        "finish_reason": {None: None, "length": "length"}.get(event.finished, "stop"),
        "logprobs": {
            "tokens": [tokenizer.decode([event.token])],
            "token_logprobs": [event.logprob],
            "top_logprobs": [likeliest],
        },
    }


def _sent(chunks: Iterator[dict[str, Any]]) -> Iterator[str]:
    for chunk in chunks:
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _error(status: int, message: str) -> JSONResponse:
    found = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": found}, status)
