"""Opens a model of ours or of another program: `hyena.load`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hyena.filters import DiagonalSSM, Filter
from hyena.interop import huggingface, weights
from hyena.interop.safari import HYENADNA, SAFARI
from hyena.interop.settings import (
    Settings,
    check_of_family,
    check_taken,
    configuration_of,
    settings_of,
)
from hyena.interop.stripedhyena import STRIPEDHYENA
from hyena.interop.stripedhyena2 import STRIPEDHYENA2
from hyena.interop.table import Family
from hyena.model import LanguageModel
from hyena.model import load as load_own
from hyena.model.checkpoint import place_of
from hyena.model.saved import CONFIG, some
from hyena.ops.arguments import placement

FAMILIES: tuple[Family, ...] = (SAFARI, HYENADNA, STRIPEDHYENA, STRIPEDHYENA2)
"""The released models that are known. A file is of the first whose marks it has."""

_ADAPTER = "adapter_config.json"


def load(
    path: str | Path,
    *,
    device: torch.device | str | None = None,
    length_policy: str | None = None,
    dtype: torch.dtype | None = None,
    configuration: str | Path | None = None,
    settings: Mapping[str, Any] | Settings | None = None,
) -> LanguageModel:
    """The model in ``path``, in evaluation mode: one of ours, also in the files of Hugging Face's
    transformers, or one of safari, HyenaDNA, StripedHyena, Evo or Evo 2 in the files that it was
    released in.

    Which it is shows in the names and shapes of its tensors. Nothing in the files is run. Weights
    that are used as they lie in a file are mapped, so that a model opens without a second copy in
    memory; leave the file as it is while the model is in use.

    Args:
        path: a folder written by `LanguageModel.save`, a run or one of its checkpoints, see
            `hyena.model.load`. Or another program's: a ``.safetensors`` or PyTorch file, one of
            PyTorch in parts (``x.pt`` for ``x.pt.part0``, ``x.pt.part1`` …), an index of shards, or
            the folder of one of these.
        device: where the parameters go; the CPU if not given. On "meta" they have shapes and
            dtypes alone.
        length_policy: instead of the saved one, see `ModelConfig.length_policy`.
        dtype: of the parameters; that of the file if not given. What filters are computed from,
            poles and the like, stays in float32 or wider.
        configuration: what another program's model was configured by, a JSON or YAML file; if not
            given, ``config.json`` or ``config.yml`` beside the weights, or a YAML file of their
            name.
        settings: what neither the weights nor the configuration say, by name; see
            `hyena.interop.Settings`.

    Raises: FileNotFoundError; ValueError, in one line, if the files are damaged or of no known
        kind, names lack or are unknown, shapes do not fit (all are listed), a setting is needed, or
        one is not of such models or not what the weights say, or the configuration is of a model of
        other sizes.
    Warns: UserWarning if the weights were trained for numbers of 8 bits, and lose quality without,
        or if the configuration has another rotary base than they.
    """
    path = Path(path)
    placement("load", None, dtype)
    if not weights.is_foreign(path):
        if configuration is not None or settings is not None:
            raise ValueError(
                f"load: configuration and settings are of other programs' files, and {path} is "
                "none; leave them out"
            )
        own = load_own(path, device=device, length_policy=length_policy)
        return own if dtype is None else in_dtype(own, dtype)
    if (path / _ADAPTER).is_file() and not (path / CONFIG).is_file():
        raise ValueError(
            f"{path} holds an adapter of PEFT and no model; put it on its model, as by "
            f"PeftModel.from_pretrained(hyena.load(MODEL), {str(path)!r}), and save what "
            "merge_and_unload() gives"
        )
    place, given = place_of(device), settings_of(settings)
    tensors = weights.read(path)
    public = configuration_of(path, configuration)
    if public.get("model_type") == huggingface.MODEL_TYPE:
        if given != Settings():
            raise ValueError(
                f"load: settings are of other programs' files, and {path} is a model of "
                "hyena.huggingface, which says all of itself; leave them out"
            )
        own = huggingface.model_of(path, tensors, public, place, length_policy)
        return own if dtype is None else in_dtype(own, dtype)
    family = family_of(tensors, path)
    check_of_family(given, family.reads, family.title)
    whole = given.over(family.settings(public))
    model = family.model(tensors, whole, dtype, place, length_policy)
    family.check_configuration(model.config, whole, tensors, public)
    check_taken(given, model.config)
    for note in family.notes(model.config, public):
        warnings.warn(note, stacklevel=2)
    return model


def family_of(tensors: Mapping[str, Tensor], path: Path) -> Family:
    """The family whose marks a file's tensors have. Raises: ValueError if there is none."""
    for family in FAMILIES:
        if family.marks(tensors):
            return family
    names = ", ".join(dict.fromkeys(family.title for family in FAMILIES))
    raise ValueError(
        f"{path} holds no model that is known ({names}), by the names of its tensors: "
        f"{some(tensors)}"
    )


@torch.no_grad()
def in_dtype(model: LanguageModel, dtype: torch.dtype) -> LanguageModel:
    """The model with its weights in a dtype, and what filters are computed from in float32 or
    wider."""
    wide = torch.promote_types(dtype, torch.float32)
    filters = [part for part in model.modules() if isinstance(part, Filter | DiagonalSSM)]
    of_filters = {
        id(x)
        for part in filters
        for name, x in part.state_dict(keep_vars=True).items()
        if name != "skip"
    }
    for x in model.state_dict(keep_vars=True).values():
        if x.is_floating_point():
            x.data = x.data.to(wide if id(x) in of_filters else dtype)
    return model
