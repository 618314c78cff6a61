"""What generation asks of a language model."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from hyena.arguments import shown
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
    def prefill(
        self,
        input_ids: Tensor,
        *,
        mask: Tensor | None = None,
        future: int | None = None,
        keep_inputs: bool | torch.dtype = False,
        last_only: bool = False,
        state: ModelState | None = None,
    ) -> tuple[Tensor, ModelState]: ...
    def step(self, input_ids: Tensor, state: ModelState) -> tuple[Tensor, ModelState]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...


def check_model(name: str, model: object, kind: type[nn.Module] = nn.Module) -> None:
    """Raises TypeError unless it can be asked for tokens and is of this kind, as one that is
    compiled is of what it was."""
    needed = ("config", "parameters", "prefill", "step")  # which a wrapper may pass on
    of_kind = isinstance(getattr(model, "_orig_mod", model), kind)
    if not (of_kind and all(hasattr(model, attribute) for attribute in needed)):
        advice = "hyena.load reads one from its folder"
        if isinstance(getattr(model, "module", None), kind):  # as of DistributedDataParallel
            advice = "pass its .module"
        elif hasattr(model, "get_base_model"):  # as of PEFT, whose adapters are inside it
            advice = "pass its get_base_model(), which has the adapters"
        raise TypeError(f"{name}: expected a LanguageModel, got {shown(model)}; {advice}")


def device_of(model: Model) -> torch.device:
    """Where the model is: the device of its first parameter."""
    return next(model.parameters()).device
