"""What PyTorch's exporters say to their own authors, and not to whoever exports a model."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_WARNINGS = (
    (r".*treespec, LeafSpec", FutureWarning),
    (r".*torch\.jit\.script", DeprecationWarning),
    (r".*should not be instantiated", DeprecationWarning),
    (r".*The axis name: .* will not be used", UserWarning),  # of a second dimension so called
    (r"Torchinductor does not support code generation for complex", UserWarning),
)
_LOGS = ("torch.onnx", "torch._inductor", "onnxscript", "onnx_ir")


@contextmanager
def quiet() -> Iterator[None]:
    """Within it that is not shown; all else is."""
    loggers = [logging.getLogger(name) for name in _LOGS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            for message, kind in _WARNINGS:
                warnings.filterwarnings("ignore", message, kind)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
