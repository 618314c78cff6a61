"""Filters as the numbers that they are at one length.

ONNX has no complex numbers to make the taps of recurrences of, and nothing changes them any more.

Sizes: D channels, F filters a channel, L length.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from hyena.filters import DiagonalSSM, HyenaFilter, LongFilter
from hyena.filters.lengths import truncate
from hyena.generation.model import device_of
from hyena.mixers.hyena.kernels import finite_taps
from hyena.model import LanguageModel
from hyena.model.stateless import with_parameters


class ConstantTaps(nn.Module):
    """Taps (F, D, L) as they are; those of a shorter length are the first of them."""

    taps: Tensor

    def __init__(self, taps: Tensor) -> None:
        super().__init__()
        self.register_buffer("taps", taps)

    def forward(self, length: int) -> Tensor:
        return truncate(self.taps, length)


@torch.no_grad()
def with_constant_filters(model: LanguageModel, length: int) -> LanguageModel:
    """A copy of the model in float32 for inputs of up to ``length`` positions, each filter without
    end as its taps: 4·F·D·L bytes a layer."""
    copy = in_float32(model)
    for module in list(copy.modules()):
        for name, filter in module.named_children():
            taps = _constant(filter, length)
            if taps is not None:
                setattr(module, name, taps)
    return copy


def in_float32(model: LanguageModel) -> LanguageModel:
    """A copy in evaluation mode with parameters of float32, on the CPU. It shares what is."""
    if device_of(model).type != "cpu":
        model = deepcopy(model).cpu()
    others = {
        name: nn.Parameter(value.detach().float())  # which torch.export asks for
        for name, value in model.named_parameters()
        if value.dtype != torch.float32
    }
    return with_parameters(model, others).eval()


def _constant(filter: nn.Module, length: int) -> nn.Module | None:
    if isinstance(filter, DiagonalSSM):  # of a mixer that is no Hyena operator
        return ConstantTaps(filter(length).float())
    if not isinstance(filter, HyenaFilter | LongFilter) or finite_taps(filter):
        return None
    taps = ConstantTaps(filter(length).float())
    constant = LongFilter(taps, filter.channels, length, filters=filter.filters)
    constant.skip = nn.Parameter(filter.direct.detach().float())
    return constant
