"""The model, tokenizer and device that options on the command line mean."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hyena
from hyena.data import Tokenizer
from hyena.filters import LengthPolicy
from hyena.filters.budget import KEPT_MEMORY
from hyena.interop.with_tokenizer import load_with_tokenizer
from hyena.model import LanguageModel
from hyena.model.streaming import WORKING_MEMORY
from hyena.training.device import Accelerator, find_device


@dataclass(kw_only=True)
class ModelOptions:
    """How a saved model is opened, and what it may take. A command adds its own options, which come
    first in its help."""

    length_policy: LengthPolicy | None = None
    """What happens beyond the model's max_length; none takes what is saved with the model."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute; "auto" takes CUDA or MPS when present, else the CPU."""
    working_memory: int = WORKING_MEMORY
    """Bytes of hidden values beyond which a block takes a long input in pieces; fewer take less
    memory and more time."""
    kept_memory: int = KEPT_MEMORY
    """Bytes that all filters together keep their spectra in between calls; 0 keeps none."""


def open_model(path: Path, options: ModelOptions) -> tuple[LanguageModel, Tokenizer]:
    """A saved model and its tokenizer, as the options want them; see `load_model`."""
    model, tokenizer = load_model(
        path, options.tokenizer, options.accelerator, options.length_policy
    )
    model.working_memory, model.kept_memory = options.working_memory, options.kept_memory
    return model, tokenizer


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Prints what is warned of within, in a line each, also where an error ends it."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            yield
    finally:
        for warning in caught:
            print(f"note: {warning.message}", file=sys.stderr)


def load_saved(folder: Path, **options: Any) -> LanguageModel:
    """`hyena.load`, whose warnings are printed as notes."""
    with warnings_as_notes():
        model = hyena.load(folder, **options)
    return model


def load_model(
    path: Path,
    tokenizer: str | None,
    accelerator: Accelerator,
    length_policy: LengthPolicy | None,
) -> tuple[LanguageModel, Tokenizer]:
    """A saved model in eval mode on its device, and its tokenizer.

    Args:
        path: see `hyena.model.saved.find_model`.
        tokenizer: see `hyena.data.load_tokenizer`; none takes the one saved with the model.
        accelerator: see `find_device`.
        length_policy: for inputs longer than max_length; none takes the one saved with the model.

    Raises: FileNotFoundError or ValueError if one of them is missing, damaged or does not fit.
    """
    device = find_device(accelerator)
    with warnings_as_notes():
        found = load_with_tokenizer(path, tokenizer, device=device, length_policy=length_policy)
    return found


def check_length(model: LanguageModel, length: int | None, advice: str) -> None:
    """ValueError, which ends with the advice, if the model takes no input of that length."""
    limit, policy = model.config.max_length, model.config.length_policy
    if length is not None and length > limit and policy == "error":
        raise ValueError(f"length is {length}, but the model's max_length is {limit}; {advice}")
