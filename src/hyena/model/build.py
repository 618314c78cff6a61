"""The mixers and filters that a model's config names."""

from typing import Any

from torch import nn

from hyena.filters import (
    DiagonalSSM,
    ExplicitTaps,
    FourierTaps,
    HyenaFilter,
    LongFilter,
    TransferFunctionTaps,
)
from hyena.mixers import SPECS, Mixer
from hyena.model.config import ModelConfig
from hyena.model.reads import OF_HYENA_FILTERS, option


def build_mixer(config: ModelConfig, name: str, **place: Any) -> Mixer:
    """The mixer that ``name`` stands for, of the model's sizes."""
    spec = SPECS[name]
    options = {argument: option(config, field) for argument, field in spec.options.items()}
    if spec.long_filter:
        options["filter"] = build_filter(config, **place)
    built: Mixer = spec.type(config.width, **options, **place)
    return built


def build_filter(config: ModelConfig, **place: Any) -> HyenaFilter | LongFilter:
    """The filter of the model's Hyena operators."""
    filter = config.filter
    number = {"filters": config.order - 1, **place}
    whole = {**number, "length_policy": config.length_policy}
    if filter.kind == "hyena":
        settings = {name: getattr(filter, name) for name in OF_HYENA_FILTERS}
        return HyenaFilter(config.width, config.max_length, **settings, **whole)
    if config.length_policy == "interpolate":
        raise ValueError(
            f"model.length_policy=interpolate is of hyena filters, but model.filter.kind is "
            f"{filter.kind}; choose error or extrapolate"
        )
    taps: nn.Module
    if filter.kind == "explicit":
        taps = ExplicitTaps(config.width, filter.taps, **number)
    elif filter.kind == "fourier":
        taps = FourierTaps(config.width, filter.modes, config.max_length, **number)
    elif filter.kind == "s4d":
        settings = {**vars(config.ssm), "state": config.filter_state}
        taps = DiagonalSSM(config.width, **settings, **number)
    else:
        taps = TransferFunctionTaps(config.width, filter.degree, **number)
    return LongFilter(taps, config.width, config.max_length, **whole)
