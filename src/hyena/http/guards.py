"""What stands before all routes: the size of bodies, and the bearer token."""

from __future__ import annotations

import hmac

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hyena.http.errors import answer

OPEN = ("/", "/healthz")
"""Paths that ask for no token, as the page that a browser can be told the token on."""

OPEN_BELOW = "/page/"
"""Where the page's files are."""


class BodyLimit:
    """Refuses a body of more than ``most`` bytes, whether it says its length or not."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self._most = app, most
        self._refusal = f"the body has more than {most:,} bytes; send less"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = 0

        async def counted() -> Message:
            nonlocal length
            message = await receive()
            length += len(message.get("body", b""))
            if length > self._most:
                raise HTTPException(413, self._refusal)
            return message

        told = Headers(scope=scope).get("content-length", "")
        if told.isascii() and told.isdigit() and int(told[:20]) > self._most:
            await answer(self._refusal, 413)(scope, receive, send)
        else:
            await self.app(scope, counted, send)


class BearerToken:
    """Refuses whoever does not send the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope):
            sent = next((v for k, v in scope["headers"] if k == b"authorization"), b"")
            if not hmac.compare_digest(sent, self._expected):
                refusal = answer("the bearer token is missing or wrong", 401)
                await refusal(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    path = scope["path"]
    return path in OPEN or path.startswith(OPEN_BELOW) or scope["method"] == "OPTIONS"
