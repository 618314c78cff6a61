"""A model in the files of Hugging Face's transformers, as `hyena.huggingface` has it: the fields of
its configuration, and such files opened.

The tensors have our names behind ``model.``, which `hyena.interop.weights` takes off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from hyena.files.records import from_plain, read_json, to_plain
from hyena.filters import LengthPolicy
from hyena.interop.pytorch_file import ALIGNED
from hyena.model import LanguageModel, ModelConfig
from hyena.model.label_head import LabelHead, Labels
from hyena.model.saved import CONFIG, misfit, undone_by

MODEL_TYPE = "hyena"
THEIRS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "max_length": "max_position_embeddings",
    "tied": "tie_word_embeddings",
}
"""Fields of `hyena.ModelConfig` that have another name in transformers; all others have ours."""
HEAD = "score."
"""Before the names of the head for labels."""

_OURS = {theirs: ours for ours, theirs in THEIRS.items()}
_NAMES = {field.name for field in dataclasses.fields(ModelConfig)}


def is_ours(folder: Path) -> bool:
    """Whether a folder holds a model of ours in the files of transformers."""
    if not (folder / CONFIG).is_file():
        return False
    return read_json(folder / CONFIG, advice="restore it").get("model_type") == MODEL_TYPE


def public_fields(config: ModelConfig) -> dict[str, Any]:
    """A model's configuration by the names of transformers."""
    return {THEIRS.get(name, name): value for name, value in to_plain(config).items()}


def model_config(public: Mapping[str, Any]) -> ModelConfig:
    """The model's configuration in that of transformers, of which other fields are passed over.

    Raises: ValueError that names the field, if one has a value that cannot be.
    """
    named = {_OURS.get(name, name): value for name, value in public.items()}
    return from_plain(ModelConfig, {n: v for n, v in named.items() if n in _NAMES}, "model")


def labels_of(public: Mapping[str, Any], count: int) -> Labels:
    """What the head for labels of a configuration of transformers says.

    Args: the configuration, and how many labels there are.
    Raises: ValueError if it cannot be, such as of a single class.
    """
    regression = count == 1 or public.get("problem_type") == "regression"
    names = {int(i): str(name) for i, name in (public.get("id2label") or {}).items()}
    return Labels(
        "regression" if regression else "classification",
        tuple(names.get(i, f"LABEL_{i}") for i in range(count)),
        pool=public.get("pool", "last"),
        begin=public.get("begin", False),
        means=(0.0,) * count if regression else (),
        deviations=(1.0,) * count if regression else (),
    )


def model_of(
    path: Path,
    tensors: Mapping[str, Tensor],
    public: Mapping[str, Any],
    device: torch.device,
    length_policy: str | None,
) -> LanguageModel:
    """The model in files of transformers, in evaluation mode and the dtypes of the file.

    Args: where the files are; their tensors, without ``model.``; their configuration.
    Raises: ValueError, in one line, if it is of both directions, quantised, or does not fit its
        tensors.
    """
    if public.get("bidirectional"):
        raise ValueError(
            f"{path} holds a model that reads both directions, which generates nothing; open it "
            "with hyena.huggingface.HyenaForMaskedLM.from_pretrained"
        )
    if public.get("quantization_config"):
        raise ValueError(
            f"{path} holds quantised weights, which are no numbers of a model; open it with "
            "hyena.huggingface.HyenaForCausalLM.from_pretrained, or save the model before it is "
            "quantised"
        )
    try:
        config = model_config(public)
    except ValueError as error:
        raise ValueError(f"the configuration of {path} is damaged: {error}") from error
    if length_policy is not None:
        config = dataclasses.replace(config, length_policy=cast(LengthPolicy, length_policy))
    model = LanguageModel(config, device="meta")
    found = dict(tensors)
    if (bias := found.get(f"{HEAD}linear.bias")) is not None:
        if public.get("problem_type") == "multi_label_classification":
            raise ValueError(
                f"{path} holds a model of classes of which several hold at once, which a head for "
                "labels has not; open it with hyena.huggingface.HyenaForSequenceClassification"
            )
        labels = labels_of(public, bias.numel())
        model.label_head = LabelHead(config.width, labels, device="meta")
        for name in [name for name in found if name.startswith(HEAD)]:
            found[f"label_head.{name.removeprefix(HEAD)}"] = found.pop(name)
    if wrong := misfit(found, model.state_dict()):
        advice = undone_by(found)
        raise ValueError(
            f"the weights in {path} do not fit its configuration: {wrong}"
            + (f"; where it was saved, {advice}" if advice else "")
        )
    model.load_state_dict({name: _placed(x, device) for name, x in found.items()}, assign=True)
    return model.eval()


def _placed(value: Tensor, device: torch.device) -> Tensor:
    value = value.to(device)
    aligned = value.is_meta or value.data_ptr() % ALIGNED == 0
    return value if aligned else value.clone()
