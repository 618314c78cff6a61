"""How well a language model predicts whole documents: perplexity and bits per byte, and the loss by
the position in a window."""

from .evaluate import Evaluation, Window, evaluate, sliding_windows
from .positions import PositionLosses, evaluate_by_position, position_bins

__all__ = [
    "Evaluation",
    "PositionLosses",
    "Window",
    "evaluate",
    "evaluate_by_position",
    "position_bins",
    "sliding_windows",
]
