"""`hyena evaluate`: perplexity and bits per byte on held-out text."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hyena.cli.bar import bar
from hyena.cli.saved_model import load_model
from hyena.data import TokenDocument, Tokenizer, find_source, open_tokens, tokenize
from hyena.data.manifest import MANIFEST_FILE
from hyena.evaluation import Evaluation, evaluate
from hyena.filters import LengthPolicy
from hyena.model import LanguageModel
from hyena.training.device import Accelerator

POSITIONAL = "model"


@dataclass
class Config:
    """What to evaluate, and on what."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    data: Path
    """Folder written by `hyena prepare`; or text as `hyena prepare` takes it."""
    split: Literal["train", "validation", "test"] = "validation"
    """Which split of prepared data; plain text has none."""
    length: int | None = None
    """Longest window, in tokens; none takes the model's max_length."""
    stride: int | None = None
    """Tokens from one window to the next; none takes half the length."""
    batch: int = 8
    """Windows at a time."""
    length_policy: LengthPolicy | None = None
    """What happens beyond the model's max_length; none takes what is saved with the model."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute; "auto" takes CUDA or MPS when present, else the CPU."""


def run(config: Config) -> None:
    """Evaluates and prints the figures."""
    model, tokenizer = load_model(
        config.model, config.tokenizer, config.accelerator, config.length_policy
    )
    length = model.config.max_length if config.length is None else config.length
    stride = max(1, length // 2) if config.stride is None else config.stride
    documents, name, targets = _documents(config, model, tokenizer)
    with bar() as report:
        result = evaluate(
            model,
            documents,
            length=length,
            stride=stride,
            batch=config.batch,
            progress=None if report is None else lambda n, done: report(n, done, targets),
        )
    print(_summary(result, name, length, stride))


def _documents(
    config: Config, model: LanguageModel, tokenizer: Tokenizer
) -> tuple[Iterator[TokenDocument], str, int | None]:
    """The documents, what to call them, and how many targets they have if that is known."""
    if (config.data / MANIFEST_FILE).is_file():
        tokens = open_tokens(config.data, config.split)
        tokens.check_tokenizer(tokenizer)
        tokens.check_vocabulary(model.config.vocab_size)
        return tokens.documents(), f"{config.data} ({config.split})", len(tokens) - 1
    return tokenize(find_source(str(config.data)).documents(), tokenizer), str(config.data), None


def _summary(result: Evaluation, name: str, length: int, stride: int) -> str:
    return (
        f"{name}: {result.documents:,} documents, {result.tokens:,} tokens, {result.bytes:,} bytes,"
        f" in windows of {length} tokens with stride {stride}\n"
        f"  bits per byte  {result.bits_per_byte:.4f}\n"
        f"  perplexity     {result.perplexity:.4f} per token\n"
        f"  loss           {result.loss_nats_per_token:.4f} nats per token"
    )
