"""Sizes of published models, a file a family."""

from hyena.model.published.hyenadna import HYENADNA
from hyena.model.published.paper import PAPER
from hyena.model.published.striped import STRIPED

__all__ = ["HYENADNA", "PAPER", "STRIPED"]
