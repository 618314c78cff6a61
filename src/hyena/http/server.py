"""The application on a port of this machine, until a signal ends it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from hyena.arguments import check_whole
from hyena.serving import Engine

_MARGIN = 5  # seconds from the end of all answers until connections are cut


def serve(
    app: FastAPI,
    engine: Engine,
    *,
    host: str,
    port: int,
    grace: float,
    say: Callable[[str], None],
) -> None:
    """Serves until SIGTERM or SIGINT. Then nothing new is taken on, and answers that have not
    ended after ``grace`` seconds are ended by an error that says why.

    Args: say: is given a line when the server listens.
    Raises: OSError if it cannot listen there; ValueError on a port or grace that cannot be.
    """
    check_whole("port", port, 0, 65535)
    if not 0 <= grace < 1e9:
        raise ValueError(f"grace: expected seconds from 0 on, got {grace}")
    listening = _listen(host, port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=int(grace) + _MARGIN,
    )
    where = listening.getsockname()
    shown = f"[{where[0]}]" if ":" in where[0] else where[0]
    say(f"serving at http://{shown}:{where[1]}/")
    _Server(config, engine, grace).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends answers by itself before connections are cut."""

    def __init__(self, config: uvicorn.Config, engine: Engine, grace: float) -> None:
        super().__init__(config)
        self._engine, self._grace = engine, grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn has it, with an end to all answers in the meantime."""
        ending = asyncio.create_task(self._end())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end(self) -> None:
        await asyncio.sleep(self._grace)
        await asyncio.to_thread(self._engine.close)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
            listening.listen(2048)
        except OSError:
            listening.close()
            raise
    except (OSError, OverflowError) as error:
        raise OSError(f"cannot listen at {host}:{port}: {error}") from error
    return listening
