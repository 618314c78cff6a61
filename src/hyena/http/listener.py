"""From the engine's thread to a coroutine: what requests are handed, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType

from starlette.types import Receive

from hyena.serving import Engine, Request, Ticket
from hyena.serving.request import Delivery


class GoneError(Exception):
    """The client has left, or does not read."""


class Listener:
    """Some requests to an engine, as one stream of what they are handed.

    Left by its ``async with``, it cancels those that have not ended.

    Args: unread: so many may wait to be taken, beyond which all is cancelled.
    """

    def __init__(self, engine: Engine, unread: int) -> None:
        self._engine, self._unread = engine, unread
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Delivery] | None] = asyncio.Queue()
        self._tickets: list[Ticket] = []

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._cancel()

    def submit(self, requests: Sequence[Request]) -> None:
        """Raises as `Engine.submit`, and has then cancelled those before."""
        try:
            for i, request in enumerate(requests):
                self._tickets.append(self._engine.submit(request, partial(self._deliver, i)))
        except Exception:
            self._cancel()
            raise

    async def each(self) -> AsyncIterator[tuple[int, Delivery]]:
        """Which request is handed what; for ever. Raises: GoneError."""
        while (found := await self._queue.get()) is not None:
            yield found
        raise GoneError

    async def watch(self, receive: Receive) -> None:
        """Cancels all once the client has closed the connection."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _deliver(self, i: int, delivery: Delivery) -> None:
        """On the engine's thread."""
        self._call(partial(self._take, i, delivery))

    def _take(self, i: int, delivery: Delivery) -> None:
        if self._queue.qsize() >= self._unread:
            self._leave()
        else:
            self._queue.put_nowait((i, delivery))

    def _leave(self) -> None:
        self._cancel()
        self._queue.put_nowait(None)

    def _cancel(self) -> None:
        for ticket in self._tickets:
            ticket.cancel()

    def _call(self, what: Callable[[], None]) -> None:
        if not self._loop.is_closed():  # after the end of the server
            self._loop.call_soon_threadsafe(what)
