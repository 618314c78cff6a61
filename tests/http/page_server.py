"""The application at a port of this machine, in a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from hyena import serving
from hyena.data import Tokenizer
from hyena.http import Settings, application
from hyena.model import LanguageModel


@contextmanager
def page_of(
    model: LanguageModel,
    tokenizer: Tokenizer,
    limits: serving.Limits | None = None,
    settings: Settings | None = None,
) -> Iterator[str]:
    """The address of a server of a model, which ends with the context."""
    app = application(serving.Engine(model, tokenizer, limits), "small", settings)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()
