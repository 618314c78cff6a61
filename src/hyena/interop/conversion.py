"""A model from one kind of files into another: `convert`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from hyena.arguments import shown
from hyena.files import atomic
from hyena.interop import weights
from hyena.interop.loading import FAMILIES, load
from hyena.interop.settings import Settings, settings_of
from hyena.interop.table import Family
from hyena.model import LanguageModel
from hyena.model.saved import reason_of

OURS = "hyena"


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    to: str = OURS,
    dtype: torch.dtype | None = None,
    configuration: str | Path | None = None,
    settings: Mapping[str, Any] | Settings | None = None,
) -> LanguageModel:
    """Writes the model in ``source`` into a folder of another kind.

    Args:
        source: of any kind that `load` opens.
        destination: a new or empty folder.
        to: "hyena" for one that `LanguageModel.save` writes; "safari", "hyenadna-hf",
            "stripedhyena" or "stripedhyena2" for the files and the configuration that programs of
            that family read.
        dtype, configuration, settings: see `load`. The layouts that settings name hold for what is
            written as well.

    Returns: the model.
    Raises: as `load`; FileExistsError if there is something in the folder; ValueError, before
        anything is written, if the model has what the other kind has not; OSError.

    Warns: as `load`.
    """
    target, families = Path(destination), {family.name: family for family in FAMILIES}
    if not isinstance(to, str) or to not in (OURS, *families):
        raise ValueError(
            f"convert: to={shown(to)} is unknown; expected {', '.join([OURS, *families])}"
        )
    refuse_filled(target)
    given = asked = settings_of(settings)
    if to != OURS and not weights.is_foreign(Path(source)):  # these are of what is written, too
        asked = replace(asked, layout=None, projections=None)
    whole = None if asked == Settings() else asked
    model = load(source, dtype=dtype, configuration=configuration, settings=whole)
    write(model, target, families.get(to), given)
    return model


def refuse_filled(folder: Path) -> None:
    """Raises FileExistsError unless a folder is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is there already; give a new or empty folder")


def write(model: LanguageModel, folder: Path, family: Family | None, settings: Settings) -> None:
    """Writes a model as one of a family, or if that is none as ours. Raises: as `convert`."""
    if family is None:
        model.save(folder)
        return
    tensors, beside = family.written(model, settings)
    text = json.dumps(beside, indent=2) + "\n"
    text = re.sub(r"(?<=: )(\d+)(?=e[-+])", r"\1.0", text)  # so it is YAML, with 1.0e-06, as well
    files: dict[str, Callable[[Path], object]] = {
        family.beside: lambda path: path.write_text(text, encoding="utf-8")
    }
    if family.weights.endswith(".safetensors"):
        files[family.weights] = lambda path: save_file(tensors, path, {"format": "pt"})
    else:
        files[family.weights] = lambda path: torch.save(tensors, path)
    try:
        atomic.write_files(folder, files)
    except (SafetensorError, RuntimeError) as error:  # PyTorch's does not say why
        unknown = "PyTorch could not write it all, as on a full disk"
        reason = reason_of(error) if isinstance(error, SafetensorError) else unknown
        raise OSError(
            f"{folder} cannot be written: {reason}. Free space or choose another folder"
        ) from error
