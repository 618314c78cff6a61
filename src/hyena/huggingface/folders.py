"""What a model must be to be written into a folder of transformers, and how one is opened."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers.quantizers import AutoQuantizationConfig

from hyena.huggingface.configuration import HyenaConfig
from hyena.model.saved import some, undone_by

_OF_FILTERS = r".*\.(two_sided_)?filter"  # as hyena.model.outside_filters has it
_PLACE = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token")


def check_saved(model: PreTrainedModel, directory: str | PathLike[str]) -> None:
    """Raises FileExistsError if the directory is a file; ValueError if the model has weights by
    names that no model has when it is loaded, or rounded ones that the file could not hold."""
    what = f"{type(model).__name__}.save_pretrained"
    if Path(directory).is_file():
        raise FileExistsError(
            f"{what}: {directory} is a file, and a model is a folder; give another name"
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        return  # of which the adapters alone are written
    weights = model.state_dict()
    if advice := undone_by(weights):
        unknown = [name for name in weights if undone_by([name])]
        raise ValueError(f"{what}: a loaded model would not have {some(unknown)}; {advice}")
    kinds = {type(x).__name__ for x in weights.values() if type(x).__module__.startswith("torchao")}
    if kinds and getattr(model, "hf_quantizer", None) is None:
        raise ValueError(
            f"{what}: the weights are rounded, {some(kinds)}, which these files cannot hold; save "
            "the model before it is quantised, and quantise what from_pretrained gives"
        )


def check_length(model: PreTrainedModel, options: Mapping[str, Any]) -> None:
    """Raises ValueError if a model that was loaded with these options is one of another length
    than its folder says: a filter is a function of the position's share of the length."""
    places = {name: options[name] for name in _PLACE if name in options}
    try:
        said, _ = HyenaConfig.get_config_dict(model.name_or_path, **places)
    except OSError:  # weights alone, beside which the configuration was given
        return
    now = model.config.max_position_embeddings
    before = said.get("max_position_embeddings", now)
    if now != before:
        raise ValueError(
            f"{type(model).__name__}: max_position_embeddings={now} was asked for, but the filters "
            f"of {model.name_or_path} are scaled by {before}; leave it out, and for longer inputs "
            'give length_policy="extrapolate"'
        )


def sparing_filters(quantization: Any) -> Any:
    """The same configuration of transformers' quantisation, or of a dict of one, but that filters
    stay as they are.

    Raises: ValueError if it is of a kind that can leave no modules out by name.
    """
    if isinstance(quantization, Mapping):
        quantization = AutoQuantizationConfig.from_dict(dict(quantization))
    if not hasattr(quantization, "modules_to_not_convert"):
        raise ValueError(
            f"quantization_config: {type(quantization).__name__} has no modules_to_not_convert, "
            "and would round what filters are computed from; take a TorchAoConfig"
        )
    changed = copy.copy(quantization)
    changed.modules_to_not_convert = [*(quantization.modules_to_not_convert or ()), _OF_FILTERS]
    return changed
