"""What generation asks of a language model."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hyena.data.arguments import shown
from hyena.generation.state import ModelState


class Config(Protocol):
    """What it asks of the model's configuration; see `hyena.ModelConfig`."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def length_policy(self) -> str: ...
    @property
    def positions(self) -> str: ...
    @property
    def has_table(self) -> bool: ...


class Model(Protocol):
    """A `torch.nn.Module` that predicts the next token, step by step, as `hyena.LanguageModel`."""

    @property
    def config(self) -> Config: ...
    @property
    def prefill(self) -> Callable[..., tuple[Tensor, ModelState]]: ...
    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


def check_model(model: Any) -> None:
    """Raises TypeError unless it is a model that can be asked for tokens."""
    needed = ("config", "parameters", "prefill", "step")  # which a wrapper may pass on
    if not (isinstance(model, nn.Module) and all(hasattr(model, name) for name in needed)):
        raise TypeError(
            f"model: expected a LanguageModel, got {shown(model)}; hyena.load reads one from its "
            "folder"
        )


def device_of(model: Model) -> torch.device:
    """Where the model is: the device of its first parameter."""
    return next(model.parameters()).device
