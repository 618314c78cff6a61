"""StripedHyena 2 and Evo 2 (Ku et al. 2025, arXiv:2503.01868; Brixi et al. 2025): short, medium and
long Hyena layers among layers of attention.

The projections lie in threes, x2, x1, v of one channel after another; the short convolution and the
short filters end at the current token, the medium ones begin with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import lcm
from typing import Any

from torch import Tensor

from hyena.interop import savanna, striped
from hyena.interop.settings import Settings, need, value_of, vocabulary
from hyena.interop.striped import EMBEDDING, WQKV, with_filters, without_filters
from hyena.interop.table import Family, Row, Table
from hyena.model import ModelConfig
from hyena.model.config import StripedConfig
from hyena.model.saved import some

_WHAT = "a StripedHyena 2 model"
_SHORT, _MEDIUM, _LONG = "hyena-se", "hyena-mr", "hyena-li"
_EVO_2 = "gelu,identity"  # activations: of the first layer, and of all others
_WIDTHS_OF_FP8 = (1920, 8192)  # Evo 2 1B, and 20B and 40B


def _marks(tensors: Mapping[str, Tensor]) -> bool:
    ends = (".filter.h", ".filter.log_poles", savanna.MARK)
    return any(name.endswith(ends) for name in tensors)


def _settings(public: Mapping[str, Any]) -> Settings:
    """What a configuration says; without one, what Evo 2's models have in common."""
    if "hidden_size" not in public:
        return Settings(norm_eps=1e-6, activation=_EVO_2, projections="interleaved")
    for name, value in (("hyena_flip_x1x2", True), ("column_split", False), ("final_norm", False)):
        if public.get(name) is value:
            raise ValueError(
                f"the configuration says {name}: {str(value).lower()}, which no released model has "
                "and which is not known here"
            )
    activation = value_of({"mlp_activation": "gelu", **public}, "mlp_activation", str)
    if public.get("evo2_style_activations") is True and activation is not None:
        activation = f"{activation},identity"
    by_head = public.get("column_split_hyena") is True
    interleaved = public.get("interleave") is True
    return Settings(
        vocab_size=value_of(public, "vocab_size", int),
        max_length=value_of(public, "max_seqlen", int),
        heads=value_of(public, "num_attention_heads", int),
        norm_eps=value_of(public, "eps", float),
        activation=activation,
        rotary_base=value_of(public, "rotary_emb_base", float),
        rotary_scale=striped.interpolation_of(public),
        projections="interleaved" if interleaved else "by-head" if by_head else "split",
    )


def _prepared(tensors: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    """Of either form of names, with as many short and medium filters in all layers."""
    if any(name.endswith(savanna.MARK) for name in tensors):
        tensors = savanna.renamed(tensors)
    taps = [n for n, x in tensors.items() if n.endswith(".filter.h") and x.dim() and x.shape[0]]
    filters = lcm(*(tensors[name].shape[0] for name in taps))
    for name in taps:
        times = filters // tensors[name].shape[0]
        if times > 1:
            tensors[name] = tensors[name].repeat_interleave(times, 0)
    return tensors


def _config(tensors: Mapping[str, Tensor], settings: Settings) -> ModelConfig:
    settings = striped.with_file(settings, tensors)
    sizes: dict[str, Any] = {"medium_decay": False}
    try:
        rows, width = tensors[EMBEDDING].shape
        mixers = [_mixer(tensors, f"blocks.{i}.") for i in range(striped.layers_of(tensors))]
        hidden = tensors["blocks.0.mlp.l1.weight"].shape[0]
        hyena = next(i for i, mixer in enumerate(mixers) if mixer != "attention")
        short_width = tensors[f"blocks.{hyena}.filter.short_filter_weight"].shape[2]
        for mixer, name, size in (
            (_SHORT, "h", "short_taps"),
            (_MEDIUM, "h", "medium_taps"),
            (_LONG, "residues", "modes"),
        ):
            if mixer in mixers:
                shape = tensors[f"blocks.{mixers.index(mixer)}.filter.{name}"].shape
                sizes[size] = shape[-1]
                if name == "h" and shape[0] < width:
                    sizes["groups"] = shape[0]
    except (KeyError, ValueError, IndexError, StopIteration) as error:
        raise ValueError(
            f"this is no StripedHyena 2 model: missing or misshapen: {error}; found {some(tensors)}"
        ) from error
    asked = {
        "norm_eps": "of the norms",
        "activation": "of the MLPs",
        "max_length": "the longest input, 8192 in Evo 2's base models, 1048576 in the 1M ones",
        "projections": "how the projections of a Hyena layer lie",
    }
    if "attention" in mixers or settings.projections == "by-head":
        asked["heads"] = "how many attention has: 15 in Evo 2 1B, 32 in 7B, 64 in 20B and 40B"
    if "attention" in mixers:
        asked["rotary_base"] = "of the rotary positions, 1e4 in Evo 2 1B and 7B, 1e6 in 20B and 40B"
        asked["rotary_scale"] = (
            "what they are divided by: 128 in Evo 2's 1M models, 32 in the 262k ones, else 1"
        )
    need(settings, _WHAT, **asked)
    heads = settings.heads or 1
    if width % heads:
        raise ValueError(f"heads={heads}, but the width is {width}; expected a divisor of it")
    return ModelConfig(
        **vocabulary(rows, settings),
        width=width,
        layers=len(mixers),
        mlp_width=hidden,
        mixers=striped.pattern_of(mixers),
        max_length=settings.max_length or 0,
        short_width=short_width,
        head_dim=width // heads if settings.heads else None,
        rotary_base=settings.rotary_base or 10000.0,
        rotary_scale=settings.rotary_scale or 1.0,
        tied=striped.is_tied(tensors),
        norm="rms",
        norm_eps=settings.norm_eps or 0.0,
        mlp="gated",
        activation=settings.activation or "",
        in_proj_bias=False,
        striped=StripedConfig(**sizes),
    )


def _mixer(tensors: Mapping[str, Tensor], block: str) -> str:
    """The mixer of a block, by what it has."""
    if f"{block}{WQKV}" in tensors:
        return "attention"
    if f"{block}filter.log_poles" in tensors:
        return _LONG
    return _MEDIUM if f"{block}filter.D" in tensors else _SHORT


def _table(config: ModelConfig, settings: Settings) -> Table:
    heads = config.width // striped.head_dim_of(config)
    read, write = striped.layout_of(settings.projections or "interleaved", heads)
    rows = striped.rows_of_model(config)
    made: dict[str, Callable[[], Tensor]] = {}
    for i, mixer in enumerate(config.layer_mixers()):
        block = f"blocks.{i}."
        rows += striped.rows_of_block(block)
        if mixer == "attention":
            by_head = (
                partial(striped.from_heads, heads=heads),
                partial(striped.to_heads, heads=heads),
            )
            rows += striped.rows_of_attention(block, *by_head, bias=False)
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
            Row(f"{ours}out_proj.weight", f"{block}out_filter_dense.weight"),
            Row(f"{ours}out_proj.bias", f"{block}out_filter_dense.bias", may_lack=True),
            *_filter(mixer, f"{ours}filter.", theirs),
        ]
    return Table(rows, made)


def _filter(mixer: str, ours: str, theirs: str) -> list[Row]:
    """The filter of one of the three layers."""
    if mixer == _SHORT:
        return [Row(f"{ours}taps.weight", f"{theirs}h", _short_taps, _of_short_taps)]
    skip = Row(f"{ours}skip", f"{theirs}D", with_filters, without_filters)
    if mixer == _MEDIUM:
        return [skip, Row(f"{ours}taps.weight", f"{theirs}h", _taps, _of_taps)]
    residues = f"{ours}taps.residues", f"{theirs}residues"
    return [
        skip,
        Row(f"{ours}taps.log_poles", f"{theirs}log_poles", _poles, _of_poles, wide=True),
        Row(*residues, with_filters, without_filters, wide=True),
    ]


def _short_taps(x: Tensor) -> Tensor:
    """(G, 1, K), last tap at lag 0, as (1, G, K) by lag."""
    return _taps(x).flip(-1)


def _of_short_taps(x: Tensor) -> Tensor:
    return _of_taps(x.flip(-1))


def _taps(x: Tensor) -> Tensor:
    """(G, 1, K) as (1, G, K)."""
    return x.transpose(0, 1)


def _of_taps(x: Tensor) -> Tensor:
    return x.transpose(0, 1)


def _poles(x: Tensor) -> Tensor:
    """(D, S, 1) as (1, D, S)."""
    return x.squeeze(2).unsqueeze(0)


def _of_poles(x: Tensor) -> Tensor:
    return x.squeeze(0).unsqueeze(2)


def _notes(config: ModelConfig, public: Mapping[str, Any]) -> list[str]:
    notes = striped.note_on_base(config, public)
    by_size = "hidden_size" not in public and config.width in _WIDTHS_OF_FP8
    if by_size or public.get("use_fp8_input_projections") is True:
        notes.append(
            "these weights were trained with projections in numbers of 8 bits (fp8), which are not "
            "used here: Evo 2 1B, 20B and 40B lose quality without them; 7B was made to do without"
        )
    return notes


def _configuration(
    config: ModelConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    mixers = config.layer_mixers()
    filters = config.striped.groups or config.width
    activation, _, others = config.activation.partition(",")
    return {
        "vocab_size": config.vocab_size,
        "make_vocab_size_divisible_by": config.vocab_multiple,
        "hidden_size": config.width,
        "num_filters": config.width,
        "num_layers": config.layers,
        "attn_layer_idxs": striped.places(mixers, "attention"),
        "hcl_layer_idxs": striped.places(mixers, _LONG),
        "hcm_layer_idxs": striped.places(mixers, _MEDIUM),
        "hcs_layer_idxs": striped.places(mixers, _SHORT),
        "hcs_filter_length": config.striped.short_taps,
        "hcs_filter_groups": filters,
        "hcm_filter_length": config.striped.medium_taps,
        "hcm_filter_groups": filters,
        "hcl_filter_groups": config.width,
        "state_size": config.striped.modes,
        "num_attention_heads": config.width // striped.head_dim_of(config),
        "proj_groups": 1,
        "short_filter_length": config.short_width,
        "short_filter_bias": False,
        "column_split": True,
        "column_split_hyena": settings.projections == "by-head",
        "interleave": (settings.projections or "interleaved") == "interleaved",
        "inner_mlp_size": config.hidden,
        "mlp_activation": activation,
        "evo2_style_activations": bool(others),
        "eps": config.norm_eps,
        "final_norm": True,
        "tie_embeddings": config.tied,
        "mha_out_proj_bias": any(n.endswith("inner_mha_cls.out_proj.bias") for n in tensors),
        "hyena_out_proj_bias": True,
        "qkv_proj_bias": False,
        "use_fp8_input_projections": config.width in _WIDTHS_OF_FP8,
        "max_seqlen": config.max_length,
        **striped.rotary_settings(config),
    }


STRIPEDHYENA2 = Family(
    name="stripedhyena2",
    title=_WHAT,
    marks=_marks,
    settings=_settings,
    prepared=_prepared,
    config=_config,
    table=_table,
    requires={
        "striped.medium_decay": (False,),
        "kv_heads": (None,),
        "positions": ("rotary",),
        "tied": (True,),
        "norm": ("rms",),
        "mlp": ("gated",),
        "activation": ("gelu", _EVO_2),
        "in_proj_bias": (False,),
    },
    mixers=frozenset({_SHORT, _MEDIUM, _LONG, "attention"}),
    configuration=_configuration,
    weights="model.pt",
    beside="config.yml",
    notes=_notes,
)
"""evo2_*: the released files, whole or in parts, and those of savanna."""
