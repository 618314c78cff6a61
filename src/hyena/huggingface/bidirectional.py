"""A language model whose positions see the whole sequence, as masked language models need it."""

from __future__ import annotations

import inspect
from dataclasses import fields

from hyena.filters import HyenaFilter
from hyena.mixers import HyenaOperator
from hyena.model import LanguageModel
from hyena.model.initialization import initialize


def make_bidirectional(model: LanguageModel) -> None:
    """Puts bidirectional operators, newly drawn, in the place of the model's mixers.

    Raises: ValueError if these are other than hyena layers with hyena filters, or block-causal.
    """
    config = model.config
    others = set(config.layer_mixers()) - {"hyena"}
    if others or config.filter.kind != "hyena" or config.block_causal:
        raise ValueError(
            "HyenaConfig: bidirectional=True is of hyena layers with hyena filters, got mixers="
            f"{config.mixers!r}, filter.kind={config.filter.kind!r}, block_causal="
            f"{config.block_causal}; give those, or bidirectional=False"
        )
    known = inspect.signature(HyenaFilter).parameters
    options = {
        field.name: getattr(config.filter, field.name)
        for field in fields(config.filter)
        if field.name in known
    }
    for block in model.blocks:
        filter = HyenaFilter(
            config.width,
            config.max_length,
            filters=config.order - 1,
            bidirectional=True,
            length_policy=config.length_policy,
            **options,
        )
        block.mixer = HyenaOperator(
            config.width,
            config.max_length,
            config.order,
            short_width=config.short_width,
            dropout=config.dropout,
            bias=config.in_proj_bias,
            bidirectional=True,
            filter=filter,
        )
    model.kept_memory = model.kept_memory  # of these filters too
    if not model.embedding.weight.is_meta:
        initialize(model, config.layers, linear=config.initial)
