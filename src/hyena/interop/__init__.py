"""Models of other programs: opened as ours, and ours written in their files."""

from hyena.interop.conversion import convert
from hyena.interop.loading import load
from hyena.interop.settings import Settings

__all__ = ["Settings", "convert", "load"]
