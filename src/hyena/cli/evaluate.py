"""`hyena evaluate`: perplexity and bits per byte on held-out text."""

from dataclasses import dataclass
from pathlib import Path

from hyena.arguments import plural
from hyena.cli.held_out import Split, held_out, measure
from hyena.cli.saved_model import check_length, load_model
from hyena.filters import LengthPolicy
from hyena.filters.budget import KEPT_MEMORY
from hyena.model.streaming import WORKING_MEMORY
from hyena.training.device import Accelerator

POSITIONAL = "model"


@dataclass
class Config:
    """What to evaluate, and on what."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    data: Path
    """Folder written by `hyena prepare`; or text as `hyena prepare` takes it."""
    split: Split = "validation"
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
    working_memory: int = WORKING_MEMORY
    """Bytes of hidden values beyond which a block takes a long input in pieces; fewer take less
    memory and more time."""
    kept_memory: int = KEPT_MEMORY
    """Bytes that all filters together keep their spectra in between calls; 0 keeps none."""


def run(config: Config) -> None:
    """Evaluates and prints the figures."""
    model, tokenizer = load_model(
        config.model, config.tokenizer, config.accelerator, config.length_policy
    )
    model.working_memory, model.kept_memory = config.working_memory, config.kept_memory
    length = model.config.max_length if config.length is None else config.length
    check_length(model, length, "lower --length, or give --length_policy extrapolate")
    stride = max(1, length // 2) if config.stride is None else config.stride
    text = held_out(config.data, config.split, model, tokenizer)
    result = measure(model, text, length=length, stride=stride, batch=config.batch)
    lines = [
        f"{text.name}: {result.documents:,} {plural(result.documents, 'document')}, "
        f"{result.tokens:,} {plural(result.tokens, 'token')}, {result.bytes:,} "
        f"{plural(result.bytes, 'byte')}, in windows of {length} "
        f"{plural(length, 'token')} with stride {stride}",
        f"  bits per byte  {result.bits_per_byte:.4f}",
        f"  perplexity     {result.perplexity:.4f} per token",
        f"  loss           {result.loss_nats_per_token:.4f} nats per token",
        *(f"  note: {note}" for note in text.notes()),
    ]
    print("\n".join(lines))
