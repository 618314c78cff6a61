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
    ModalTaps,
    RealModalTaps,
    TransferFunctionTaps,
)
from hyena.mixers import SPECS, Mixer
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
    "explicit": (ExplicitTaps, {"taps": "filter.taps", "groups": "filter.groups"}),
    "fourier": (FourierTaps, {"modes": "filter.modes", "max_length": "max_length"}),
    "s4d": (DiagonalSSM, {**_SSM, "state": "filter.state"}),  # ssm.state where that is not given
    "transfer-function": (TransferFunctionTaps, {"degree": "filter.degree"}),
    "modal": (ModalTaps, {"modes": "filter.modes", "groups": "filter.groups"}),
}
# The same of the filters of StripedHyena 2, by what the spec of a mixer calls its filter.
_STRIPED: dict[str, tuple[type[nn.Module], dict[str, str]]] = {
    "short": (ExplicitTaps, {"taps": "striped.short_taps", "groups": "striped.groups"}),
    "medium": (
        ExplicitTaps,
        {
            "taps": "striped.medium_taps",
            "groups": "striped.groups",
            "decay": "striped.medium_decay",
        },
    ),
    "long": (RealModalTaps, {"modes": "striped.modes"}),
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
        options["filter"] = build_filter(config, spec.long_filter, **place)
    with _named_as_options(f"mixers={name}", spec.options):
        built: Mixer = spec.type(config.width, **options, **place)
    return built


def build_filter(
    config: ModelConfig, which: str = "filter", **place: Any
) -> HyenaFilter | LongFilter:
    """A long filter of the model's Hyena operators: "filter", the one that ``config.filter``
    describes; or "short", "medium" or "long" of ``config.striped``, for operators of order 2."""
    what, made_by, arguments = _made_by(config, which)
    options: dict[str, Any] = {name: option(config, field) for name, field in arguments.items()}
    number = {"filters": config.order - 1 if which == "filter" else 1, **place}
    whole = {**number, "length_policy": config.length_policy}
    if made_by is HyenaFilter:
        with _named_as_options(what, arguments):
            return HyenaFilter(config.width, config.max_length, **options, **whole)
    if config.length_policy == "interpolate":
        kind = config.filter.kind
        other = f"model.filter.kind is {kind}" if which == "filter" else "model.mixers has others"
        raise ValueError(
            f"model.length_policy=interpolate is of hyena filters, but {other}; choose error or "
            "extrapolate"
        )
    if made_by is DiagonalSSM:
        options["state"] = config.filter_state
    with _named_as_options(what, arguments):
        taps = made_by(config.width, **options, **number)
    skip = which != "short"
    return LongFilter(taps, config.width, config.max_length, skip=skip, **whole)


def _made_by(config: ModelConfig, which: str) -> tuple[str, type[nn.Module], dict[str, str]]:
    """What `build_filter` makes, for a message; its class or that of its taps; their arguments."""
    if which == "filter":
        return f"filter.kind={config.filter.kind}", *_FILTERS[config.filter.kind]
    return "striped", *_STRIPED[which]


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
    fields_of = [field for spec in specs for field in spec.options.values()]
    read = {field if isinstance(field, str) else field[0] for field in fields_of}
    for spec in specs:
        if spec.long_filter:
            read.update(_made_by(config, spec.long_filter)[2].values())
        if spec.long_filter == "filter":
            read.add("filter.kind")
            if config.filter.kind == "s4d" and config.filter.state is None:
                read.add("ssm.state")
    if config.positions != "rotary":
        read -= {"rotary_base", "rotary_scale"}
    if config.positions == "learned":  # a table beside the embedding, whatever the mixers
        read.add("positions")
    names = {field.name for field in fields(ModelConfig)}.difference(PARTS)
    names |= {f"{part}.{field.name}" for part, kind in PARTS.items() for field in fields(kind)}
    return names.difference(read, _OF_ALL)
