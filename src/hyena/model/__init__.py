"""Language models built from mixers."""

from hyena.model.checkpoint import load, save
from hyena.model.config import FilterConfig, ModelConfig
from hyena.model.flops import AttentionFlops, FlopTable, HyenaFlops, ModelFlops
from hyena.model.flops_of_rivals import RivalFlops
from hyena.model.language_model import LanguageModel
from hyena.model.presets import PRESETS, preset
from hyena.model.state import ModelState

__all__ = [
    "PRESETS",
    "AttentionFlops",
    "FilterConfig",
    "FlopTable",
    "HyenaFlops",
    "LanguageModel",
    "ModelConfig",
    "ModelFlops",
    "ModelState",
    "RivalFlops",
    "load",
    "preset",
    "save",
]
