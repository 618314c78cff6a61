"""Which options of a model its parts read."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce

from hyena.mixers import SPECS, Spec
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


def option(config: ModelConfig, field: str | tuple[str, object]) -> object:
    """The value of a field of the config, dotted, or whether it is the value beside it."""
    if isinstance(field, tuple):
        return option(config, field[0]) == field[1]
    return reduce(getattr, field.split("."), config)


def without_effect(config: ModelConfig) -> list[str]:
    """The options, dotted, that are not at their defaults and that no mixer or filter of the model
    reads."""
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
    of_parts.update(name for names in _FILTERS.values() for name in names)
    return sorted(name for name in of_parts - read if option(config, name) != option(_PLAIN, name))


def _read_by(spec: Spec) -> set[str]:
    """The options that a mixer reads and not every model; those of its filter aside."""
    fields = {field if isinstance(field, str) else field[0] for field in spec.options.values()}
    return fields.difference(_OF_ALL) | ({"filter.kind"} if spec.long_filter else set())


_PLAIN = ModelConfig()
