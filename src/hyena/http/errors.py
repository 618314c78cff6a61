"""Errors in the shape that OpenAI's clients read."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from hyena.serving import LimitError

_KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
_LONGEST = 500  # characters of a message

log = logging.getLogger(__name__)


class Answer(Response):
    """JSON in ASCII, since a text may hold what is no character, as half a surrogate pair."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


class RefusedError(Exception):
    """A request that is not served, and why.

    Args:
        message: one line.
        status: of HTTP.
        param: the field that is at fault.
    """

    def __init__(self, message: str, *, status: int = 400, param: str | None = None) -> None:
        super().__init__(message)
        self.message, self.status, self.param = message, status, param


def described(message: str, status: int, param: str | None = None) -> dict[str, Any]:
    """The body of an error."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    if len(message) > _LONGEST:
        message = message[:_LONGEST] + "…"
    return {"error": {"message": message, "type": kind, "param": param, "code": None}}


def answer(message: str, status: int, param: str | None = None) -> Answer:
    """An error as an answer."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}}.get(status)
    return Answer(described(message, status, param), status, headers)


def tell_errors(app: FastAPI) -> None:
    """Gives the application a handler for each kind of error."""

    @app.exception_handler(RefusedError)
    async def refused(_: Request, error: RefusedError) -> Answer:
        return answer(error.message, error.status, error.param)

    @app.exception_handler(LimitError)
    async def full(_: Request, error: LimitError) -> Answer:
        return answer(str(error), 429)

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Answer:
        return answer(str(error.detail), error.status_code)

    @app.exception_handler(RequestValidationError)
    async def misshapen(_: Request, error: RequestValidationError) -> Answer:
        return answer(*_first(error.errors()))

    @app.exception_handler(Exception)
    async def unforeseen(_: Request, error: Exception) -> Answer:
        log.error("a request failed", exc_info=error)
        return answer(f"the server failed: {type(error).__name__}", 500)


def _first(errors: Sequence[Any]) -> tuple[str, int, str | None]:
    """Of several errors of one body the first; of a field of several kinds that of each kind."""
    place = [str(part) for part in errors[0]["loc"][1:]]
    name = place[0] if place else None
    if errors[0]["type"] == "json_invalid":
        return f"the body is no JSON: {errors[0]['ctx']['error']}", 400, None
    if errors[0]["type"] == "extra_forbidden":
        return f"{'.'.join(place)}: this field is not supported; leave it out", 400, name
    same = [each["msg"] for each in errors if list(map(str, each["loc"][1:2])) == place[:1]]
    said = "; ".join(dict.fromkeys(same))
    return (f"{name}: {said}" if name else f"the body: {said}"), 400, name
