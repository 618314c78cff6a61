"""Many requests at once from one model, each as if it were alone."""

from hyena.serving.engine import Engine
from hyena.serving.inspection import Inspector, Layer, Picture
from hyena.serving.limits import LimitError, Limits
from hyena.serving.request import Failure, PromptScores, Request, Ticket

__all__ = [
    "Engine",
    "Failure",
    "Inspector",
    "Layer",
    "LimitError",
    "Limits",
    "Picture",
    "PromptScores",
    "Request",
    "Ticket",
]
