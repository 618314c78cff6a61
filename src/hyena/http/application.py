"""The application: an engine behind OpenAI's routes, the page, and what it asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from hyena import __version__
from hyena.generation.prompts import room
from hyena.http import completions, inspection, page, tokens
from hyena.http.errors import Answer, tell_errors
from hyena.http.guards import BearerToken, BodyLimit
from hyena.http.settings import Settings
from hyena.serving import Engine


def application(engine: Engine, name: str, settings: Settings | None = None) -> FastAPI:
    """An ASGI application that serves the model of an engine.

    Args:
        engine: with a tokenizer, and not started: the application starts it with its lifespan, and
            closes it with that.
        name: what clients call the model.
        settings: of the server.

    Raises: ValueError if the engine has no tokenizer.
    """
    settings = Settings() if settings is None else settings
    model, tokenizer = engine.model, engine.tokenizer
    if tokenizer is None:
        raise ValueError("application: expected an engine with a tokenizer, got one without")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await asyncio.to_thread(engine.close)

    app = FastAPI(
        title=f"hyena serve {name}",
        version=__version__,
        lifespan=lifespan,
        default_response_class=Answer,
        docs_url=None,  # whose page would ask another host
        redoc_url=None,
    )
    tell_errors(app)
    app.include_router(page.router())
    app.include_router(inspection.router(model, tokenizer))
    app.include_router(completions.router(engine, tokenizer, name, settings))
    app.include_router(tokens.router(tokenizer, room(model.config)))
    card = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "hyena"}

    @app.get("/v1/models", response_model=None)
    async def models() -> dict[str, Any]:
        """The one model."""
        return {"object": "list", "data": [card]}

    @app.get("/healthz", response_model=None)
    async def healthz() -> dict[str, Any]:
        """Whether requests are served, with how many wait and grow."""
        return {"status": "ok", "waiting": engine.waiting, "growing": engine.growing}

    # The last one comes first.
    app.add_middleware(BodyLimit, most=settings.body_bytes)
    if settings.token is not None:
        app.add_middleware(BearerToken, token=settings.token)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    fields = app.openapi()["components"]["schemas"]["CompletionQuestion"]["properties"]
    fields["model"]["enum"] = [name]  # of the description, which is made once
    return app
