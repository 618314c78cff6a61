"""The mixers and filters that a model's config names."""

from collections.abc import Callable
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
from hyena.model.config import FilterConfig, ModelConfig
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
    if filter.kind == "hyena":
        settings = {name: getattr(filter, name) for name in OF_HYENA_FILTERS}
        return HyenaFilter(
            config.width,
            config.max_length,
            filters=config.order - 1,
            length_policy=config.length_policy,
            **settings,
            **place,
        )
    if config.length_policy == "interpolate":
        raise ValueError(
            f"model.length_policy=interpolate is of hyena filters, but model.filter.kind is "
            f"{filter.kind}; choose error or extrapolate"
        )
    taps = _TAPS[filter.kind](config, filter, place)
    return LongFilter(
        taps,
        config.width,
        config.max_length,
        filters=config.order - 1,
        length_policy=config.length_policy,
        **place,
    )


def _explicit(config: ModelConfig, filter: FilterConfig, place: dict[str, Any]) -> nn.Module:
    return ExplicitTaps(config.width, filter.taps, filters=config.order - 1, **place)


def _fourier(config: ModelConfig, filter: FilterConfig, place: dict[str, Any]) -> nn.Module:
    return FourierTaps(
        config.width, filter.modes, config.max_length, filters=config.order - 1, **place
    )


def _s4d_taps(config: ModelConfig, filter: FilterConfig, place: dict[str, Any]) -> nn.Module:
    settings = {**vars(config.ssm), "state": config.filter_state}
    return DiagonalSSM(config.width, filters=config.order - 1, **settings, **place)


def _transfer_function(
    config: ModelConfig, filter: FilterConfig, place: dict[str, Any]
) -> nn.Module:
    return TransferFunctionTaps(config.width, filter.degree, filters=config.order - 1, **place)


_TAPS: dict[str, Callable[[ModelConfig, FilterConfig, dict[str, Any]], nn.Module]] = {
    "explicit": _explicit,
    "fourier": _fourier,
    "s4d": _s4d_taps,
    "transfer-function": _transfer_function,
}
