"""Perplexity and bits per byte: how well a language model predicts whole documents."""

from .evaluate import Evaluation, Window, evaluate, sliding_windows

__all__ = ["Evaluation", "Window", "evaluate", "sliding_windows"]
