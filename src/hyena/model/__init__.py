"""Language models built from mixers."""

from hyena.model.checkpoint import load, save
from hyena.model.config import FilterConfig, ModelConfig
from hyena.model.language_model import LanguageModel, ModelState
from hyena.model.presets import PRESETS, preset

__all__ = [
    "PRESETS",
    "FilterConfig",
    "LanguageModel",
    "ModelConfig",
    "ModelState",
    "load",
    "preset",
    "save",
]
