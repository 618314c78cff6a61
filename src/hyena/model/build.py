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
from hyena.mixers import (
    GSS,
    H3,
    RWKV,
    S4D,
    AFTConv,
    CausalSelfAttention,
    HyenaOperator,
    LinearAttention,
)
from hyena.model.config import FilterConfig, ModelConfig
from hyena.model.reads import OF_HYENA_FILTERS


def build_mixer(config: ModelConfig, name: str, **place: Any) -> Any:
    """The mixer that ``name`` stands for, of the model's sizes.

    Its interface is that of `hyena.HyenaOperator`: forward, prefill, step and state_size.
    """
    return _BUILDERS[name](config, place)


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


def _hyena(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return HyenaOperator(
        config.width,
        config.max_length,
        config.order,
        short_width=config.short_width,
        dropout=config.dropout,
        block_causal=config.block_causal,
        filter=build_filter(config, **place),
        **place,
    )


def _attention(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return CausalSelfAttention(
        config.width,
        head_dim=config.head_dim,
        dropout=config.dropout,
        rotary=config.positions == "rotary",
        **place,
    )


def _linear_attention(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return LinearAttention(config.width, head_dim=config.head_dim, **place)


def _rwkv(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return RWKV(config.width, **place)


def _aft_conv(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return AFTConv(config.width, taps=config.local_width, **place)


def _s4d(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return S4D(config.width, **vars(config.ssm), **place)


def _h3(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return H3(config.width, head_dim=1, **vars(config.ssm), **place)


def _gss(config: ModelConfig, place: dict[str, Any]) -> nn.Module:
    return GSS(config.width, **vars(config.ssm), **place)


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


_BUILDERS: dict[str, Callable[[ModelConfig, dict[str, Any]], nn.Module]] = {
    "hyena": _hyena,
    "attention": _attention,
    "linear-attention": _linear_attention,
    "rwkv": _rwkv,
    "aft-conv": _aft_conv,
    "s4d": _s4d,
    "h3": _h3,
    "gss": _gss,
}
_TAPS: dict[str, Callable[[ModelConfig, FilterConfig, dict[str, Any]], nn.Module]] = {
    "explicit": _explicit,
    "fourier": _fourier,
    "s4d": _s4d_taps,
    "transfer-function": _transfer_function,
}
