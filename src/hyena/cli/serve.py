"""`hyena serve`: an HTTP server of one model that OpenAI's clients speak to."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from hyena.cli.options import REPEATED
from hyena.cli.saved_model import ModelOptions, open_model
from hyena.data.packages import require
from hyena.serving import Engine, Limits

POSITIONAL = "model"


@dataclass
class Config(ModelOptions):
    """What to serve, where, and to whom."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    name: str | None = None
    """What clients call the model; none takes the name of its folder."""
    host: str = "127.0.0.1"
    """Address to listen at. At any but the default the server is open to the network: give a
    token."""
    port: int = 8000
    """Port to listen at; 0 takes one that is free."""
    token_file: Path | None = None
    """A file with the bearer token that clients have to send. The environment variable
    HYENA_TOKEN has the same effect."""
    cors: list[str] | str = field(default_factory=list, metadata=REPEATED)
    """An origin whose pages a browser lets read the answers, such as https://example.org, or *. May
    be given several times."""
    sequences: int = Limits.sequences
    """So many answers grow at once."""
    waiting: int = Limits.waiting
    """Requests that may wait for a place; more are answered with status 429."""
    prompt_tokens: int = Limits.prompt_tokens
    """Tokens of one prompt at most."""
    new_tokens: int = Limits.new_tokens
    """Tokens of one answer at most."""
    state_memory: int = Limits.state_bytes
    """Bytes of the states of all answers that grow, and of prompts that are read."""
    prefix_memory: int = Limits.kept_bytes
    """Bytes of the states that are kept for prompts which begin alike; 0 keeps none."""
    piece: int = Limits.piece
    """Tokens of a prompt that are read between two tokens of the answers that grow."""
    body_bytes: int = 1 << 26
    """Bytes of a request at most."""
    grace: float = 10.0
    """Seconds that answers may go on after SIGTERM or Ctrl-C, before they are ended."""


def run(config: Config) -> None:
    """Serves until SIGTERM or Ctrl-C."""
    require("fastapi", "hyena serve", "hyena[serve]")
    require("uvicorn", "hyena serve", "hyena[serve]")
    from hyena.http import Settings, application
    from hyena.http.server import serve

    limits = Limits(
        sequences=config.sequences,
        waiting=config.waiting,
        prompt_tokens=config.prompt_tokens,
        new_tokens=config.new_tokens,
        state_bytes=config.state_memory,
        kept_bytes=config.prefix_memory,
        piece=config.piece,
    )
    origins = [config.cors] if isinstance(config.cors, str) else config.cors
    settings = Settings(
        token=_token(config.token_file), cors=tuple(origins), body_bytes=config.body_bytes
    )
    model, tokenizer = open_model(config.model, config)
    name = config.name or config.model.resolve().name
    engine = Engine(model, tokenizer, limits)
    app = application(engine, name, settings)
    serve(app, engine, host=config.host, port=config.port, grace=config.grace, say=_say)


def _token(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("HYENA_TOKEN") or None
    token = file.read_text(encoding="utf-8").strip()
    if not token or any(not "!" <= letter <= "~" for letter in token):
        raise ValueError(f"{file}: expected a token of printable ASCII without blanks in one line")
    return token


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
