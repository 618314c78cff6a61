"""`hyena convert`: released models into ours, and ours into the files of their programs."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from hyena.cli.saved_model import load_saved, warnings_as_notes
from hyena.data import Tokenizer, load_tokenizer
from hyena.files import digests
from hyena.files.atomic import staged
from hyena.interop import Settings, convert, huggingface
from hyena.interop.conversion import OURS, refuse_filled
from hyena.interop.weights import is_foreign
from hyena.interop.with_tokenizer import own_tokenizer
from hyena.model import LanguageModel
from hyena.model.saved import find_model

POSITIONAL = ("source", "destination")
HUGGING_FACE = "huggingface"


@dataclass
class Config:
    """What to convert, and into what."""

    source: Path
    """A released model: a .safetensors or PyTorch file, one in parts by its name without .part0, an
    index of shards, or the folder of one of them; or a model of ours, as of hyena evaluate."""
    destination: Path
    """Folder for the result; new or empty."""
    to: Literal[
        "hyena", "huggingface", "safari", "hyenadna-hf", "stripedhyena", "stripedhyena2"
    ] = "hyena"
    """Whose files to write: ours, which all other commands take; those of Hugging Face's
    transformers, which they take as well; or those of the programs of that name."""
    dtype: Literal["float64", "float32", "bfloat16", "float16"] | None = None
    """Of the weights; null keeps the source's. What filters are computed from stays in float32."""
    configuration: Path | None = None
    """The configuration that the model was released with, .json or .yml; null takes config.json or
    config.yml beside the weights, or a YAML file of their name."""
    tokenizer: str | None = None
    """Tokenizer to save with a model of ours, or of transformers, see `hyena prepare --help`; null
    takes the source's, if that is a model of ours."""
    settings: Settings = field(default_factory=Settings)
    """What neither the weights nor the configuration say."""


def run(config: Config) -> None:
    """Converts and prints what there is to know of the model."""
    refuse_filled(config.destination)
    tokenizer = _tokenizer(config)
    with staged(config.destination) as folder:
        if config.to == HUGGING_FACE:
            model = _export(config, folder, tokenizer)
        else:
            with warnings_as_notes():
                model = convert(config.source, folder, to=config.to, **_options(config))
        if config.to == OURS and tokenizer is not None:
            if tokenizer.vocab_size > model.config.vocab_size:
                raise ValueError(
                    f"tokenizer {tokenizer.name} has {tokenizer.vocab_size} ids, but the model in "
                    f"{config.source} has {model.config.vocab_size}; give the one that it was "
                    "trained with"
                )
            tokenizer.save(folder)
            digests.complete(folder)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{config.destination}: {parameters:,} parameters, {model.config.layers} layers of width "
        f"{model.config.width}, as files of {config.to}"
    )
    if config.to in (OURS, HUGGING_FACE) and tokenizer is None:
        print(
            "note: without a tokenizer, which --tokenizer would save: hyenadna for HyenaDNA, "
            "evo for Evo 1 and 2",
            file=sys.stderr,
        )


def _tokenizer(config: Config) -> Tokenizer | None:
    """The one to be saved with a model of ours."""
    if config.to not in (OURS, HUGGING_FACE):
        if config.tokenizer is not None:
            raise ValueError(f"tokenizer is of models of ours, not of {config.to}; leave it out")
        return None
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    if is_foreign(config.source):
        return own_tokenizer(config.source) if huggingface.is_ours(config.source) else None
    return own_tokenizer(find_model(config.source))


def _options(config: Config) -> dict[str, Any]:
    """What is said of the source."""
    return {
        "dtype": None if config.dtype is None else getattr(torch, config.dtype),
        "configuration": config.configuration,
        "settings": None if config.settings == Settings() else config.settings,
    }


def _export(config: Config, folder: Path, tokenizer: Tokenizer | None) -> LanguageModel:
    """Writes the files of transformers."""
    from hyena.huggingface import HyenaForCausalLM, HyenaForSequenceClassification, export

    model = load_saved(config.source, **_options(config))
    labelled = model.label_head is not None
    kind = HyenaForSequenceClassification if labelled else HyenaForCausalLM
    export(kind.from_language_model(model), folder, tokenizer=tokenizer)
    return model
