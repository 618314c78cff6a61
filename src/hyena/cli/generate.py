"""`hyena generate`: continues prompts."""

from dataclasses import dataclass
from pathlib import Path

from hyena.cli.saved_model import Accelerator, load_model

POSITIONAL = "model"


@dataclass
class Config:
    """What to continue, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    prompt: str | list[str] = ""
    """A text, or several as [a,b]; none starts a document."""
    tokens: int = 200
    """Most tokens to add to each prompt."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token each time."""
    top_k: int | None = None
    """Choose among the k most likely tokens."""
    top_p: float | None = None
    """Choose among the most likely tokens that together have this probability."""
    seed: int = 0
    """Seed of the choices."""
    stop: str | None = None
    """Stop a text where this string appears."""
    stream: bool = True
    """Print one prompt's text as it comes."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute; "auto" takes CUDA or MPS when present, else the CPU."""


def run(config: Config) -> None:
    """Generates and prints."""
    model, tokenizer = load_model(config.model, config.tokenizer, config.accelerator)
    raise RuntimeError("generation is not there yet")
