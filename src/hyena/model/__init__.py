"""Language models built from mixers: configuration, blocks, presets, counts, save and load."""

from hyena.generation.state import ModelState
from hyena.mixers.flops import LayerFlops
from hyena.model.checkpoint import load, save
from hyena.model.config import FilterConfig, ModelConfig
from hyena.model.flops import FlopTable, ModelFlops
from hyena.model.language_model import LanguageModel
from hyena.model.linear_layers import PROJECTIONS, outside_filters
from hyena.model.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "PROJECTIONS",
    "FilterConfig",
    "FlopTable",
    "LanguageModel",
    "LayerFlops",
    "ModelConfig",
    "ModelFlops",
    "ModelState",
    "load",
    "outside_filters",
    "preset",
    "save",
]
