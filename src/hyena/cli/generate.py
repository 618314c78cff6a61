"""`hyena generate`: continues prompts."""

from dataclasses import dataclass
from pathlib import Path

from hyena.cli.saved_model import load_model
from hyena.data import Tokenizer
from hyena.filters import LengthPolicy
from hyena.generation import generate
from hyena.model import LanguageModel
from hyena.training.device import Accelerator

POSITIONAL = "model"
_NEW_TOKENS = 128


@dataclass
class Config:
    """What to continue, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    prompt: str = ""
    """A text, taken as it is; empty begins a new document."""
    prompts: Path | None = None
    """A UTF-8 text file with a prompt in each line, instead of prompt; they run as one batch."""
    max_new_tokens: int | None = None
    """At most so many tokens are added to a prompt; none means 128, or what the model has room
    for."""
    temperature: float = 1.0
    """Logits are divided by this; 0 takes the likeliest token."""
    top_k: int | None = None
    """Keep only the k likeliest tokens."""
    top_p: float | None = None
    """Then keep the fewest likeliest tokens whose probabilities add up to p or more."""
    seed: int = 0
    """Seed of the choices; the prompts after the first use the following ones."""
    stop: str | None = None
    """A text ends where this string appears."""
    length_policy: LengthPolicy | None = None
    """What happens beyond the model's max_length; none takes what is saved with the model."""
    tokenizer: str | None = None
    """Tokenizer, if none is saved with the model: see `hyena prepare --help`."""
    accelerator: Accelerator = "auto"
    """Where to compute; "auto" takes CUDA or MPS when present, else the CPU."""


def run(config: Config) -> None:
    """Prints each prompt with its continuation; that of a single prompt as it comes."""
    model, tokenizer = load_model(
        config.model, config.tokenizer, config.accelerator, config.length_policy
    )
    prompts = _prompts(config)
    new = config.max_new_tokens
    stream = _Stream(prompts[0])
    generations = generate(
        model,
        prompts,
        tokenizer=tokenizer,
        max_new_tokens=_room(model, prompts, tokenizer) if new is None else new,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        seed=config.seed,
        stop=config.stop,
        on_text=stream if len(prompts) == 1 else None,
    )
    if len(prompts) == 1:
        print(stream.before)
        return
    for i, (prompt, generation) in enumerate(zip(prompts, generations, strict=True), start=1):
        print(f"[{i}] {prompt}{generation.text}\n")


def _prompts(config: Config) -> list[str]:
    if config.prompts is None:
        return [config.prompt]
    if config.prompt:
        raise ValueError("prompt and prompts were both given; give one of them")
    try:
        lines = config.prompts.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{config.prompts} is not UTF-8 text: {error}") from error
    if not lines:
        raise ValueError(f"{config.prompts} is empty; write a prompt in each line")
    return lines


def _room(model: LanguageModel, prompts: list[str], tokenizer: Tokenizer) -> int:
    """The default of max_new_tokens."""
    if model.config.length_policy == "extrapolate":
        return _NEW_TOKENS
    longest = 1 + max(len(tokenizer.encode(prompt)) for prompt in prompts)
    return max(1, min(_NEW_TOKENS, model.config.max_length - longest + 1))


class _Stream:
    """Prints the pieces of one text, the prompt before the first of them."""

    def __init__(self, prompt: str) -> None:
        self.before = prompt

    def __call__(self, index: int, piece: str) -> None:
        print(self.before + piece, end="", flush=True)
        self.before = ""
