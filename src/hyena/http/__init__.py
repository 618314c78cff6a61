"""A server of one model that speaks OpenAI's protocol, on FastAPI (extra ``serve``)."""

from hyena.http.application import application
from hyena.http.settings import Settings

__all__ = ["Settings", "application"]
