"""The mixers and filters that a model's config names, and which of its options they read."""

from dataclasses import fields
from functools import reduce
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
from hyena.mixers import SPECS, Mixer, Spec
from hyena.model.config import FilterConfig, ModelConfig, SSMConfig

_OF_OTHERS = ("kind", "taps", "modes", "degree", "state")
OF_HYENA_FILTERS = tuple(
    field.name for field in fields(FilterConfig) if field.name not in _OF_OTHERS
)
"""The fields of `FilterConfig` that are of `hyena.HyenaFilter`."""

_SSM = tuple(f"ssm.{field.name}" for field in fields(SSMConfig))
_FILTERS = {
    "hyena": tuple(f"filter.{name}" for name in OF_HYENA_FILTERS),
    "explicit": ("filter.taps",),
    "fourier": ("filter.modes",),
    "s4d": ("filter.state", *_SSM),
    "transfer-function": ("filter.degree",),
}
_OF_ALL = ("dropout", "max_length")  # which the model reads besides


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
    kinds: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
        "explicit": (ExplicitTaps, {"taps": filter.taps}),
        "fourier": (FourierTaps, {"modes": filter.modes, "max_length": config.max_length}),
        "s4d": (DiagonalSSM, {**vars(config.ssm), "state": config.filter_state}),
        "transfer-function": (TransferFunctionTaps, {"degree": filter.degree}),
    }
    taps, options = kinds[filter.kind]
    made = taps(config.width, **options, **number)
    return LongFilter(made, config.width, config.max_length, **whole)


def option(config: ModelConfig, field: str | tuple[str, object]) -> object:
    """The value of a field of the config, dotted, or whether it is the value beside it."""
    if isinstance(field, tuple):
        return option(config, field[0]) == field[1]
    return reduce(getattr, field.split("."), config)


def without_effect(config: ModelConfig) -> list[str]:
    """The options, dotted, that are not at their defaults and that no mixer or filter of the model
    reads."""
    plain = ModelConfig()
    return sorted(n for n in unread(config) if option(config, n) != option(plain, n))


def unread(config: ModelConfig) -> set[str]:
    """The options, dotted, that no mixer or filter of the model reads."""
    specs = [SPECS[name] for name in dict.fromkeys(config.layer_mixers())]
    read = {name for spec in specs for name in _read_by(spec)}
    if any(spec.long_filter for spec in specs):
        of_filter = set(_FILTERS[config.filter.kind])
        if config.filter.state is not None:  # which takes the place of the other one
            of_filter.discard("ssm.state")
        read |= of_filter
    if config.positions == "learned":  # a table beside the embedding, whatever the mixers
        read.add("positions")
    of_parts = {name for spec in SPECS.values() for name in _read_by(spec)}
    return of_parts.union(*_FILTERS.values()) - read


def _read_by(spec: Spec) -> set[str]:
    """The options that a mixer reads and not every model; those of its filter aside."""
    read = {field if isinstance(field, str) else field[0] for field in spec.options.values()}
    return read.difference(_OF_ALL) | ({"filter.kind"} if spec.long_filter else set())
