"""What a server may be told beside its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hyena.arguments import check_whole


@dataclass(frozen=True)
class Settings:
    """Of a server. Raises: ValueError on a value outside its range."""

    token: str | None = None
    """Who does not send it as bearer token is refused everywhere but at ``/healthz`` and the page's
    files; None asks for none."""
    cors: Sequence[str] = ()
    """Origins whose pages a browser lets read the answers; "*" is all."""
    body_bytes: int = 1 << 26
    """Of the body of a request."""
    prompts: int = 128
    """Prompts in one request."""
    unread: int = 4096
    """Tokens that may wait for a client to read them; one that is further behind is dropped."""

    def __post_init__(self) -> None:
        for name in ("body_bytes", "prompts", "unread"):
            check_whole(name, getattr(self, name), 1, None)
        if self.token is not None and not self.token:
            raise ValueError("token: expected at least one character, got an empty one")
