"""A model with the tokenizer that it was trained with."""

from pathlib import Path

import torch

from hyena.data import Tokenizer, load_tokenizer
from hyena.interop.loading import load
from hyena.model import LanguageModel
from hyena.model.saved import find_model


def load_with_tokenizer(
    path: Path,
    tokenizer: str | None = None,
    *,
    device: torch.device | str | None = None,
    length_policy: str | None = None,
) -> tuple[LanguageModel, Tokenizer]:
    """A model in evaluation mode, and its tokenizer.

    Args:
        path: see `hyena.model.saved.find_model`.
        tokenizer: see `hyena.data.load_tokenizer`; none takes the one saved with the model.
        device, length_policy: see `hyena.load`.

    Raises: as these; FileNotFoundError if no tokenizer is saved with the model and none is given;
        ValueError if the tokenizer is another one, or has more tokens than the model.
    """
    folder = find_model(path)
    model = load(folder, device=device, length_policy=length_policy)
    own = own_tokenizer(folder)
    found = own if tokenizer is None else load_tokenizer(tokenizer)
    if found is None:
        raise FileNotFoundError(
            f"no tokenizer is saved with the model in {folder}; give one with --tokenizer "
            "(tokenizer=)"
        )
    if own is not None and own.fingerprint != found.fingerprint:
        raise ValueError(
            f"tokenizer {found.name} was asked for, but the model in {folder} was trained with "
            f"tokenizer {own.name}, which is saved with it; leave --tokenizer out"
        )
    if found.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"tokenizer {found.name} has {found.vocab_size} ids, but the model in {folder} has "
            f"vocab_size {model.config.vocab_size}; give the one it was trained with to --tokenizer"
        )
    return model, found


def own_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer saved with a model; None if there is none."""
    try:
        return load_tokenizer(folder)
    except FileNotFoundError:
        return None
