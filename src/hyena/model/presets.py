"""Published models by name."""

from copy import deepcopy
from dataclasses import replace

from hyena.model.config import ModelConfig
from hyena.model.published import HYENADNA, PAPER, STRIPED

PRESETS: dict[str, ModelConfig] = PAPER | HYENADNA | STRIPED
"""The sizes of published models, without their weights."""


def preset(name: str, **changes: object) -> ModelConfig:
    """A preset's configuration, with fields changed.

    Raises: ValueError on an unknown name; TypeError on an unknown field.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset {name!r:.60} is unknown; expected one of {', '.join(PRESETS)}")
    return replace(deepcopy(PRESETS[name]), **changes)  # type: ignore[arg-type]
