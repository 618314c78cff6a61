"""Initial weights of a language model, all in one place.

| parameter                              | initial value                                   |
|----------------------------------------|-------------------------------------------------|
| embedding                              | N(0, 0.02)                                      |
| every Linear: the filter network's and | N(0, 0.02), bias 0                              |
| an untied head too                     |                                                 |
| mixer.out_proj, mlp.down               | N(0, 0.02 / √(2 · layers)), bias 0              |
| short convolution                      | U(−1/√K, 1/√K), weight and bias                 |
| filter.skip, if there is one           | N(0, 1)                                         |
| filter.sine_freq, decay, encoding      | as configured, see `hyena.HyenaFilter`          |
| what other filters and mixers have     | as their modules draw it (`Draws`)              |
| norms                                  | 1, bias 0                                       |

After the public code of Poli et al. 2023 (arXiv:2302.10866). With PyTorch's N(0, 1) embedding and
a tied head, a model starts with a loss far above that of a uniform guess.
"""

import math
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from hyena.filters import Filter

STD = 0.02


@runtime_checkable
class Draws(Protocol):
    """A module with random parameters of its own, drawn when it is built and here again."""

    def draw(self, generator: torch.Generator | None = None) -> None:
        """Draws them anew."""


def embedding(rows: int, width: int, **place: Any) -> nn.Embedding:
    """An embedding that `initialize` draws. On the device "meta" nothing is drawn: PyTorch would
    load its compiler for this, which takes seconds."""
    if torch.empty(0, **place).is_meta:
        return nn.Embedding.from_pretrained(torch.empty(rows, width, **place), freeze=False)
    return nn.Embedding(rows, width, **place)


@torch.no_grad()
def initialize(
    model: nn.Module,
    layers: int,
    generator: torch.Generator | None = None,
    *,
    linear: Literal["normal", "pytorch"] = "normal",
) -> None:
    """Draws every random parameter of a model of so many layers in the order of its modules.

    Args: linear: layers as in the table, or weight and bias U(−1/√fan_in, 1/√fan_in) as PyTorch
        has them.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and linear == "pytorch":
            bound = 1 / math.sqrt(module.in_features)
            for parameter in module.parameters():
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        elif isinstance(module, nn.Linear):
            last = name.endswith((".out_proj", ".mlp.down"))
            std = STD / math.sqrt(2 * layers) if last else STD
            nn.init.normal_(module.weight, std=std, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=STD, generator=generator)
        elif isinstance(module, Filter) and isinstance(module.skip, nn.Parameter):
            nn.init.normal_(module.skip, generator=generator)
        elif isinstance(module, Draws):
            module.draw(generator)
