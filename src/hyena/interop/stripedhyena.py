"""StripedHyena and Evo 1 (Poli et al. 2023, Nguyen et al. 2024): Hyena layers with filters that are
sums of complex exponentials, among layers of attention.

``y = x2 · (h ∗ (x1 · v) + D · x1 · v)`` with ``h_t = Re Σ R p^t``: our x⁰, x¹ and v in this order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hyena.interop import striped
from hyena.interop.settings import Settings, refuse_others
from hyena.interop.striped import EMBEDDING, WQKV
from hyena.interop.table import Family, Row, Table
from hyena.model import FilterConfig, ModelConfig

_WHAT = "a StripedHyena model"


def _marks(tensors: Mapping[str, Tensor]) -> bool:
    return EMBEDDING in tensors and any(name.endswith(".filter.poles") for name in tensors)


def _settings(public: Mapping[str, Any]) -> Settings:
    """What a configuration says, and what the public code takes where it says nothing."""
    if "hidden_size" not in public:
        return Settings()
    refuse_others(public, smeared_gqa=(False,), final_norm=(True,))
    return striped.settings_of(public, "silu")


def _prepared(tensors: dict[str, Tensor], settings: Settings) -> dict[str, Tensor]:
    return tensors


def _config(tensors: Mapping[str, Tensor], settings: Settings) -> ModelConfig:
    biases = (".projections.bias", ".short_filter_bias", ".Wqkv.bias")

    def mixer(block: str) -> str:
        return "attention" if f"{block}{WQKV}" in tensors else "hyena"

    def sizes(mixers: list[str], width: int) -> dict[str, Any]:
        first = f"blocks.{mixers.index('hyena')}.filter.poles"
        filters, modes, _, _ = tensors[first].shape
        groups = None if filters == width else filters
        return {
            "in_proj_bias": any(name.endswith(biases) for name in tensors),
            "filter": FilterConfig(kind="modal", modes=modes, groups=groups),
        }

    return striped.config_of(_WHAT, tensors, settings, mixer, sizes)


def _table(config: ModelConfig, settings: Settings) -> Table:
    return striped.table_of(config, settings.projections or "by-head", _filter)


def _filter(mixer: str, block: str) -> list[Row]:
    ours, theirs = f"{block}mixer.filter.taps.", f"{block}filter."
    return [
        striped.skip_of(block),
        Row(f"{ours}poles", f"{theirs}poles", _modes, _of_modes, wide=True),
        Row(f"{ours}residues", f"{theirs}residues", _modes, _of_modes, wide=True),
    ]


def _modes(x: Tensor) -> Tensor:
    """(G, S, 1, 2) as (1, G, S, 2)."""
    return x.squeeze(2).unsqueeze(0)


def _of_modes(x: Tensor) -> Tensor:
    return x.squeeze(0).unsqueeze(2)


def _configuration(
    config: ModelConfig, settings: Settings, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    filters = config.filter.groups or config.width
    return {
        **striped.configuration_of(config, tensors),
        "hyena_layer_idxs": striped.places(config, "hyena"),
        "hyena_filter_groups": config.width // filters,
        "state_size": config.filter.modes,
        "column_split": False,
        "column_split_hyena": (settings.projections or "by-head") == "by-head",
        "mlp_activation": config.activation,
    }


STRIPEDHYENA = Family(
    name="stripedhyena",
    title=_WHAT,
    marks=_marks,
    reads=striped.READS,
    settings=_settings,
    prepared=_prepared,
    config=_config,
    table=_table,
    requires={
        **striped.REQUIRES,
        "filter.kind": ("modal",),
        "order": (2,),
        "activation": ("gelu", "silu"),
        "in_proj_bias": (True,),
    },
    mixers=frozenset({"hyena", "attention"}),
    configuration=_configuration,
    sizes=striped.SIZES,
    notes=striped.note_on_base,
)
"""togethercomputer/StripedHyena-Hessian-7B and evo-1-*, in their own form and Hugging Face's."""
