"""StripedHyena 2 and Evo 2 (Ku et al. 2025, arXiv:2503.01868; Brixi et al. 2025): short, medium and
long Hyena layers among layers of attention.

The projections lie in threes, x2, x1, v of one channel after another; the short convolution and the
short filters end at the current token, the medium ones begin with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import lcm
from typing import Any, cast

from torch import Tensor
from torch.nn import functional as F

from hyena.filters import LongFilter
from hyena.interop import savanna, striped
from hyena.interop.settings import Settings, refuse_others, value_of
from hyena.interop.striped import WQKV, with_filters, without_filters
from hyena.interop.table import Family, Row, Table
from hyena.model import LanguageModel, ModelConfig
from hyena.model.config import StripedConfig

_WHAT = "a StripedHyena 2 model"
_SHORT, _MEDIUM, _LONG = "hyena-se", "hyena-mr", "hyena-li"
_EVO_2 = "gelu,identity"  # activations: of the first layer, and of all others
_WIDTHS_OF_FP8 = (1920, 8192)  # Evo 2 1B, and 20B and 40B
_LEAST_MEDIUM = 128  # taps by which the programs tell medium filters from short ones


def _marks(tensors: Mapping[str, Tensor]) -> bool:
    ends = (".filter.h", ".filter.log_poles", savanna.MARK)
    return any(name.endswith(ends) for name in tensors)


def _settings(public: Mapping[str, Any]) -> Settings:
    """What a configuration says; without one, what Evo 2's models have in common."""
    if not public:
        return Settings(norm_eps=1e-6, activation=_EVO_2, projections="interleaved")
    if "hidden_size" not in public:
        return Settings()
    refuse_others(public, hyena_flip_x1x2=(False,), column_split=(True,), final_norm=(True,))
    found = striped.settings_of(public, "gelu")
    activation, projections = found.activation, found.projections
    if value_of(public, "evo2_style_activations", bool) and activation is not None:
        activation = f"{activation},identity"
    if value_of(public, "interleave", bool):
        if projections != "split":
            raise ValueError(
                "the configuration says interleave: true without column_split_hyena: false: "
                "projections that lie in threes and then by heads, which no released model has "
                "and which are not known here"
            )
        projections = "interleaved"
    return replace(found, activation=activation, projections=projections)


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
    def mixer(block: str) -> str:
        """By what the block has."""
        if f"{block}{WQKV}" in tensors:
            return "attention"
        if f"{block}filter.log_poles" in tensors:
            return _LONG
        return _MEDIUM if f"{block}filter.D" in tensors else _SHORT

    def sizes(mixers: list[str], width: int) -> dict[str, Any]:
        found: dict[str, Any] = {"medium_decay": False}
        for name, tensor, size in (
            (_SHORT, "h", "short_taps"),
            (_MEDIUM, "h", "medium_taps"),
            (_LONG, "residues", "modes"),
        ):
            if name in mixers:
                shape = tensors[f"blocks.{mixers.index(name)}.filter.{tensor}"].shape
                found[size] = shape[-1]
                if tensor == "h" and shape[0] < width:
                    found["groups"] = shape[0]
        return {"in_proj_bias": False, "striped": StripedConfig(**found)}

    config = striped.config_of(_WHAT, tensors, settings, mixer, sizes)
    if config.kv_heads is not None:
        raise ValueError(
            f"{config.kv_heads} heads of keys for {config.heads} of queries are not known in files "
            "of this kind, whose rows lie head by head"
        )
    return config


def _table(config: ModelConfig, settings: Settings) -> Table:
    projections = settings.projections or "interleaved"
    return striped.table_of(config, projections, _filter, heads_apart=True)


def _filter(mixer: str, block: str) -> list[Row]:
    """The filter of one of the three layers."""
    ours, theirs = f"{block}mixer.filter.taps.", f"{block}filter."
    taps = f"{ours}weight", f"{theirs}h"
    if mixer == _SHORT:
        return [Row(*taps, _short_taps, _of_short_taps, wide=True)]
    if mixer == _MEDIUM:
        return [striped.skip_of(block), Row(*taps, _taps, _taps, wide=True)]
    residues = f"{ours}residues", f"{theirs}residues"
    return [
        striped.skip_of(block),
        Row(f"{ours}log_poles", f"{theirs}log_poles", _poles, _of_poles, wide=True),
        Row(*residues, with_filters, without_filters, wide=True),
    ]


def _taps(x: Tensor) -> Tensor:
    """(G, 1, K) as (1, G, K), or the other way round."""
    return x.transpose(0, 1)


def _short_taps(x: Tensor) -> Tensor:
    """(G, 1, K), last tap at lag 0, as (1, G, K) by lag."""
    return _taps(x).flip(-1)


def _of_short_taps(x: Tensor) -> Tensor:
    return _taps(x.flip(-1))


def _poles(x: Tensor) -> Tensor:
    """(D, S, 1) as (1, D, S)."""
    return x.squeeze(2).unsqueeze(0)


def _of_poles(x: Tensor) -> Tensor:
    return x.squeeze(0).unsqueeze(2)


def _as_theirs(model: LanguageModel) -> tuple[ModelConfig, Mapping[str, Tensor]]:
    """With the window of medium filters in their taps, and of these, with zeros, as many as
    programs tell them by."""
    config, weights = model.config, model.state_dict()
    sizes, mixers = config.striped, config.layer_mixers()
    if _SHORT in mixers and sizes.short_taps >= _LEAST_MEDIUM:
        raise ValueError(
            f"the model cannot be written as {_WHAT}: model.striped.short_taps is "
            f"{sizes.short_taps}, but programs take filters of {_LEAST_MEDIUM} taps or more for "
            "medium ones"
        )
    if _MEDIUM not in mixers:
        return config, weights
    more = max(_LEAST_MEDIUM - sizes.medium_taps, 0)
    each = config.width // (sizes.groups or config.width)
    for i in striped.places(config, _MEDIUM):
        filter = cast(LongFilter, model.get_submodule(f"blocks.{i}.mixer.filter"))
        taps = filter.all_taps().detach()[:, ::each]  # (1, G, K)
        weights[f"blocks.{i}.mixer.filter.taps.weight"] = F.pad(taps, (0, more))
    sizes = replace(sizes, medium_decay=False, medium_taps=sizes.medium_taps + more)
    return replace(config, striped=sizes), weights


def _notes(config: ModelConfig, public: Mapping[str, Any]) -> list[str]:
    notes = striped.note_on_base(config, public)
    by_size = "hidden_size" not in public and config.width in _WIDTHS_OF_FP8
    if by_size or value_of(public, "use_fp8_input_projections", bool):
        notes.append(
            "these weights were trained with projections in numbers of 8 bits (fp8), which are not "
            "used here: Evo 2 1B, 20B and 40B lose quality without them; 7B was made to do without"
        )
    return notes


def _configuration(
    config: ModelConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    filters = config.striped.groups or config.width
    projections = settings.projections or "interleaved"
    activation, _, others = config.activation.partition(",")
    return {
        **striped.configuration_of(config, tensors),
        "hcl_layer_idxs": striped.places(config, _LONG),
        "hcm_layer_idxs": striped.places(config, _MEDIUM),
        "hcs_layer_idxs": striped.places(config, _SHORT),
        "hcs_filter_length": config.striped.short_taps,
        "hcs_filter_groups": filters,
        "hcm_filter_length": config.striped.medium_taps,
        "hcm_filter_groups": filters,
        "hcl_filter_groups": config.width,
        "state_size": config.striped.modes,
        "column_split": True,
        "column_split_hyena": projections == "by-head",
        "interleave": projections == "interleaved",
        "mlp_activation": activation,
        "evo2_style_activations": bool(others),
        "hyena_out_proj_bias": True,
        "use_fp8_input_projections": config.width in _WIDTHS_OF_FP8,
    }


STRIPEDHYENA2 = Family(
    name="stripedhyena2",
    title=_WHAT,
    marks=_marks,
    reads=striped.READS,
    settings=_settings,
    prepared=_prepared,
    config=_config,
    table=_table,
    requires={
        **striped.REQUIRES,
        "kv_heads": (None,),
        "tied": (True,),
        "activation": ("gelu", _EVO_2),
        "in_proj_bias": (False,),
    },
    mixers=frozenset({_SHORT, _MEDIUM, _LONG, "attention"}),
    configuration=_configuration,
    sizes=(*striped.SIZES, "hcl_layer_idxs", "hcm_layer_idxs", "hcs_layer_idxs"),
    weights="model.pt",
    beside="config.yml",
    as_theirs=_as_theirs,
    notes=_notes,
)
"""evo2_*: the released files, whole or in parts, and those of savanna."""
