"""The parts of a block that a model's config names, and which of its options they read."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from hyena.model.config import PARTS, FilterConfig, ModelConfig, SSMConfig
from hyena.model.mlp import MLP, GatedMLP
from hyena.model.norm import Norm, RMSNorm

_OF_OTHERS = ("kind", "taps", "modes", "degree", "state", "groups")
_HYENA = {
    field.name: f"filter.{field.name}"
    for field in fields(FilterConfig)
    if field.name not in _OF_OTHERS
}
_SSM = {field.name: f"ssm.{field.name}" for field in fields(SSMConfig)}

# What a filter, or its taps, is made by, and each argument with its option, dotted.
_FILTERS: dict[str, tuple[type[nn.Module], dict[str, str]]] = {
    "hyena": (HyenaFilter, _HYENA),
    "explicit": (ExplicitTaps, {"taps": "filter.taps"}),
    "fourier": (FourierTaps, {"modes": "filter.modes", "max_length": "max_length"}),
    "s4d": (DiagonalSSM, {**_SSM, "state": "filter.state"}),  # ssm.state where that is not given
    "transfer-function": (TransferFunctionTaps, {"degree": "filter.degree"}),
}
# What every model reads, whatever its mixers.
_OF_ALL = (
    "vocab_size",
    "width",
    "layers",
    "mlp_width",
    "mixers",
    "max_length",
    "length_policy",
    "dropout",
    "vocab_multiple",
    "initial",
    "tied",
    "norm",
    "norm_eps",
    "mlp",
    "activation",
)


def build_norm(config: ModelConfig, **place: Any) -> Norm:
    """A norm of the residual stream."""
    if config.norm == "rms":
        return RMSNorm(config.width, config.norm_eps, **place)
    return nn.LayerNorm(config.width, eps=config.norm_eps, **place)


def build_mlp(config: ModelConfig, layer: int, **place: Any) -> MLP | GatedMLP:
    """The MLP of a layer, counted from 0."""
    sizes = config.width, config.hidden, config.layer_activations()[layer]
    return MLP(*sizes, **place) if config.mlp == "plain" else GatedMLP(*sizes, **place)


def build_mixer(config: ModelConfig, name: str, **place: Any) -> Mixer:
    """The mixer that ``name`` stands for, of the model's sizes."""
    spec = SPECS[name]
    options = {argument: option(config, field) for argument, field in spec.options.items()}
    if spec.long_filter:
        options["filter"] = build_filter(config, **place)
    with _named_as_options(f"mixers={name}", spec.options):
        built: Mixer = spec.type(config.width, **options, **place)
    return built


def build_filter(config: ModelConfig, **place: Any) -> HyenaFilter | LongFilter:
    """The filter of the model's Hyena operators."""
    kind = config.filter.kind
    made_by, arguments = _FILTERS[kind]
    options: dict[str, Any] = {name: option(config, field) for name, field in arguments.items()}
    number = {"filters": config.order - 1, **place}
    whole = {**number, "length_policy": config.length_policy}
    if kind == "hyena":
        with _named_as_options("filter.kind=hyena", arguments):
            return HyenaFilter(config.width, config.max_length, **options, **whole)
    if config.length_policy == "interpolate":
        raise ValueError(
            f"model.length_policy=interpolate is of hyena filters, but model.filter.kind is "
            f"{kind}; choose error or extrapolate"
        )
    if kind == "s4d":
        options["state"] = config.filter_state
    with _named_as_options(f"filter.kind={kind}", arguments):
        taps = made_by(config.width, **options, **number)
    return LongFilter(taps, config.width, config.max_length, **whole)


@contextmanager
def _named_as_options(
    what: str, arguments: Mapping[str, str | tuple[str, object]]
) -> Iterator[None]:
    """Where a layer refuses its arguments, names them as the options of the model that they are."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for argument, field in arguments.items():
            name = field if isinstance(field, str) else field[0]
            text = re.sub(rf"(?<![\w.]){argument}\b", f"model.{name}", text)
        raise ValueError(f"model.{what}: {text.partition(': ')[2] or text}") from error


def option(config: ModelConfig, field: str | tuple[str, object]) -> object:
    """The value of a field of the config, dotted, or whether it is the value beside it."""
    if isinstance(field, tuple):
        return option(config, field[0]) == field[1]
    return reduce(getattr, field.split("."), config)


def without_effect(config: ModelConfig) -> list[str]:
    """The options, dotted, that are not at their defaults and that nothing in the model reads."""
    plain = ModelConfig()
    return sorted(n for n in unread(config) if option(config, n) != option(plain, n))


def layers_in_words(config: ModelConfig) -> str:
    """The mixers of the model, for a message."""
    hyena = f"hyena with {config.filter.kind} filters"
    mixers = dict.fromkeys(config.layer_mixers())
    return ", ".join(hyena if name == "hyena" else name for name in mixers)


def unread(config: ModelConfig) -> set[str]:
    """The options, dotted, that nothing in the model reads."""
    specs = [SPECS[name] for name in dict.fromkeys(config.layer_mixers())]
    read = {name for spec in specs for name in _read_by(spec)}
    if any(spec.long_filter for spec in specs):
        read.update(_FILTERS[config.filter.kind][1].values())
        if config.filter.kind == "s4d" and config.filter.state is None:
            read.add("ssm.state")
    if config.positions == "learned":  # a table beside the embedding, whatever the mixers
        read.add("positions")
    names = {field.name for field in fields(ModelConfig)}.difference(PARTS)
    names |= {f"{part}.{field.name}" for part, kind in PARTS.items() for field in fields(kind)}
    return names.difference(read, _OF_ALL)


def _read_by(spec: Spec) -> set[str]:
    """The options that a mixer reads; those of its filter aside."""
    read = {field if isinstance(field, str) else field[0] for field in spec.options.values()}
    return read | ({"filter.kind"} if spec.long_filter else set())
