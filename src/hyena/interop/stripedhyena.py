"""StripedHyena and Evo 1 (Poli et al. 2023, Nguyen et al. 2024): Hyena layers with filters that are
sums of complex exponentials, among layers of attention.

``y = x2 · (h ∗ (x1 · v) + D · x1 · v)`` with ``h_t = Re Σ R p^t``: our x⁰, x¹ and v in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from hyena.interop import striped
from hyena.interop.settings import Settings, need, value_of, vocabulary
from hyena.interop.striped import EMBEDDING, WQKV
from hyena.interop.table import Family, Row, Table
from hyena.model import FilterConfig, ModelConfig
from hyena.model.saved import some

_WHAT = "a StripedHyena model"


def _marks(tensors: Mapping[str, Tensor]) -> bool:
    return EMBEDDING in tensors and any(name.endswith(".filter.poles") for name in tensors)


def _settings(public: Mapping[str, Any]) -> Settings:
    """What a configuration says, and what the public code takes where it says nothing."""
    if "hidden_size" not in public:
        return Settings()
    by_head = public.get("column_split_hyena") is True
    return Settings(
        vocab_size=value_of(public, "vocab_size", int),
        max_length=value_of(public, "max_seqlen", int),
        heads=value_of(public, "num_attention_heads", int),
        norm_eps=value_of(public, "eps", float),
        activation=value_of({"mlp_activation": "silu", **public}, "mlp_activation", str),
        rotary_base=value_of(public, "rotary_emb_base", float),
        rotary_scale=striped.interpolation_of(public),
        projections="by-head" if by_head else "split",
    )


def _prepared(tensors: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    return tensors


def _config(tensors: Mapping[str, Tensor], settings: Settings) -> ModelConfig:
    settings = striped.with_file(settings, tensors)
    try:
        rows, width = tensors[EMBEDDING].shape
        layers = striped.layers_of(tensors)
        mixers = [
            "attention" if f"blocks.{i}.{WQKV}" in tensors else "hyena" for i in range(layers)
        ]
        hyena = f"blocks.{mixers.index('hyena')}.filter."
        filters, modes, _, _ = tensors[f"{hyena}poles"].shape
        short_width = tensors[f"{hyena}short_filter_weight"].shape[2]
        hidden = tensors["blocks.0.mlp.l1.weight"].shape[0]
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(
            f"this is no StripedHyena model: missing or misshapen: {error}; found {some(tensors)}"
        ) from error
    asked = {
        "norm_eps": "of the norms, 1e-5 in StripedHyena-7B, 1e-6 in Evo 1",
        "activation": "of the MLPs, silu in StripedHyena-7B, gelu in Evo 1",
        "max_length": "the longest input",
        "projections": "how the projections of a Hyena layer lie, by-head where the configuration "
        "has column_split_hyena, else split",
    }
    if "attention" in mixers or settings.projections == "by-head":
        asked["heads"] = "how many attention has"
    if "attention" in mixers:
        asked["rotary_base"] = "of the rotary positions, 10000 in Evo 1"
        asked["rotary_scale"] = "what they are divided by, 16 in Evo 1's 131k models, else 1"
    need(settings, _WHAT, **asked)
    heads = settings.heads or 1
    if width % heads:
        raise ValueError(f"heads={heads}, but the width is {width}; expected a divisor of it")
    head_dim = width // heads
    kv_heads = heads
    if "attention" in mixers:
        of_attention = tensors[f"blocks.{mixers.index('attention')}.{WQKV}"].shape[0]
        kv_heads = (of_attention - width) // (2 * head_dim)
    biases = (".projections.bias", ".short_filter_bias", ".Wqkv.bias")
    return ModelConfig(
        **vocabulary(rows, settings),
        width=width,
        layers=layers,
        mlp_width=hidden,
        mixers=striped.pattern_of(mixers),
        max_length=settings.max_length or 0,
        short_width=short_width,
        head_dim=head_dim if settings.heads else None,
        kv_heads=None if kv_heads == heads else kv_heads,
        rotary_base=settings.rotary_base or 10000.0,
        rotary_scale=settings.rotary_scale or 1.0,
        tied=striped.is_tied(tensors),
        norm="rms",
        norm_eps=settings.norm_eps or 0.0,
        mlp="gated",
        activation=settings.activation or "",
        in_proj_bias=any(name.endswith(biases) for name in tensors),
        filter=FilterConfig(
            kind="modal", modes=modes, groups=None if filters == width else filters
        ),
    )


def _table(config: ModelConfig, settings: Settings) -> Table:
    heads = config.width // striped.head_dim_of(config)
    read, write = striped.layout_of(settings.projections or "by-head", heads)
    rows = striped.rows_of_model(config)
    made: dict[str, Callable[[], Tensor]] = {}
    for i, mixer in enumerate(config.layer_mixers()):
        block = f"blocks.{i}."
        rows += striped.rows_of_block(block)
        if mixer == "attention":
            rows += striped.rows_of_attention(block, bias=config.in_proj_bias)
            name, make = striped.frequencies_of(config, block)
            made[name] = make
            continue
        ours, theirs = f"{block}mixer.", f"{block}filter."
        rows += [
            Row(f"{ours}in_proj.weight", f"{block}projections.weight", read, write),
            Row(
                f"{ours}short_conv.weight",
                f"{theirs}short_filter_weight",
                partial(striped.taps_of, layout=read),
                partial(striped.convolution_of, layout=write),
            ),
            Row(
                f"{ours}filter.skip",
                f"{theirs}D",
                striped.with_filters,
                striped.without_filters,
            ),
            Row(f"{ours}filter.taps.poles", f"{theirs}poles", _modes, _of_modes, wide=True),
            Row(f"{ours}filter.taps.residues", f"{theirs}residues", _modes, _of_modes, wide=True),
            Row(f"{ours}out_proj.weight", f"{block}out_filter_dense.weight"),
            Row(f"{ours}out_proj.bias", f"{block}out_filter_dense.bias", may_lack=True),
        ]
        if config.in_proj_bias:
            rows += [
                Row(f"{ours}in_proj.bias", f"{block}projections.bias", read, write, may_lack=True),
                Row(
                    f"{ours}short_conv.bias",
                    f"{theirs}short_filter_bias",
                    read,
                    write,
                    may_lack=True,
                ),
            ]
    return Table(rows, made)


def _modes(x: Tensor) -> Tensor:
    """(G, S, 1, 2) as (1, G, S, 2)."""
    return x.squeeze(2).unsqueeze(0)


def _of_modes(x: Tensor) -> Tensor:
    return x.squeeze(0).unsqueeze(2)


def _configuration(
    config: ModelConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    mixers = config.layer_mixers()
    heads = config.width // striped.head_dim_of(config)
    filters = config.filter.groups or config.width
    return {
        "vocab_size": config.vocab_size,
        "make_vocab_size_divisible_by": config.vocab_multiple,
        "hidden_size": config.width,
        "num_filters": config.width,
        "num_layers": config.layers,
        "attn_layer_idxs": striped.places(mixers, "attention"),
        "hyena_layer_idxs": striped.places(mixers, "hyena"),
        "num_attention_heads": heads,
        "proj_groups": heads // (config.kv_heads or heads),
        "hyena_filter_groups": config.width // filters,
        "state_size": config.filter.modes,
        "short_filter_length": config.short_width,
        "short_filter_bias": True,
        "column_split": False,
        "column_split_hyena": (settings.projections or "by-head") == "by-head",
        "inner_mlp_size": config.hidden,
        "mlp_activation": config.activation,
        "eps": config.norm_eps,
        "final_norm": True,
        "tie_embeddings": config.tied,
        "mha_out_proj_bias": any(n.endswith("inner_mha_cls.out_proj.bias") for n in tensors),
        "qkv_proj_bias": any(n.endswith("Wqkv.bias") for n in tensors),
        "max_seqlen": config.max_length,
        **striped.rotary_settings(config),
    }


STRIPEDHYENA = Family(
    name="stripedhyena",
    title=_WHAT,
    marks=_marks,
    settings=_settings,
    prepared=_prepared,
    config=_config,
    table=_table,
    requires={
        "filter.kind": ("modal",),
        "order": (2,),
        "positions": ("rotary",),
        "norm": ("rms",),
        "mlp": ("gated",),
        "activation": ("gelu", "silu"),
        "in_proj_bias": (True,),
    },
    mixers=frozenset({"hyena", "attention"}),
    configuration=_configuration,
    notes=striped.note_on_base,
)
"""togethercomputer/StripedHyena-Hessian-7B and evo-1-*, in their own form and Hugging Face's."""
