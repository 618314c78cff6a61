"""Which options of a model its parts read."""

from __future__ import annotations

from dataclasses import fields

from hyena.model.config import ModelConfig, SSMConfig

OF_HYENA_FILTERS = (
    "emb_dim",
    "width",
    "depth",
    "sine_freq",
    "train_sine_freq",
    "window",
    "shift",
    "fast_decay",
    "slow_decay",
    "train_decay",
    "normalized",
    "train_encoding",
)
"""The fields of `FilterConfig` that are of `hyena.HyenaFilter`."""

_SSM = tuple(f"ssm.{field.name}" for field in fields(SSMConfig))
_MIXERS = {
    "hyena": ("order", "short_width", "block_causal", "filter.kind"),
    "attention": ("head_dim", "positions"),
    "linear-attention": ("head_dim",),
    "rwkv": (),
    "aft-conv": ("local_width",),
    "s4d": _SSM,
    "h3": _SSM,
    "gss": _SSM,
}
_OF_STATE_SPACES = [name for name, options in _MIXERS.items() if options == _SSM]
_FILTERS = {
    "hyena": tuple(f"filter.{name}" for name in OF_HYENA_FILTERS),
    "explicit": ("filter.taps",),
    "fourier": ("filter.modes",),
    "s4d": ("filter.state", *_SSM),
    "transfer-function": ("filter.degree",),
}


def without_effect(config: ModelConfig) -> list[str]:
    """The options, dotted, that are not at their defaults and that no mixer or filter of the model
    reads."""
    mixers = set(config.layer_mixers())
    read = {name for mixer in mixers for name in _MIXERS[mixer]}
    if "hyena" in mixers:
        read.update(_FILTERS[config.filter.kind])
        if config.filter.state is not None and mixers.isdisjoint(_OF_STATE_SPACES):
            read.discard("ssm.state")  # filter.state takes its place
    if config.positions == "learned":  # a table beside the embedding, whatever the mixers
        read.add("positions")
    of_parts = {name for names in (*_MIXERS.values(), *_FILTERS.values()) for name in names}
    return sorted(name for name in of_parts - read if _value(config, name) != _value(_PLAIN, name))


def _value(config: ModelConfig, name: str) -> object:
    part: object = config
    for word in name.split("."):
        part = getattr(part, word)
    return part


_PLAIN = ModelConfig()
