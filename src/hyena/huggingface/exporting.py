"""Folders that transformers opens where hyena is not installed, by ``trust_remote_code=True``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from hyena.data import Tokenizer
from hyena.huggingface.configuration import HyenaConfig
from hyena.huggingface.folders import check_saved
from hyena.huggingface.pretrained import HyenaPreTrainedModel
from hyena.huggingface.tokenizers import tokenizer_as_transformers

CODE = Path(__file__).parent / "exported"
"""What such a folder has beside the model: the same model in PyTorch alone."""

_MODULE = "modeling_hyena"
_CLASSES = {
    "AutoConfig": "HyenaConfig",
    "AutoModel": "HyenaModel",
    "AutoModelForCausalLM": "HyenaForCausalLM",
    "AutoModelForMaskedLM": "HyenaForMaskedLM",
    "AutoModelForSequenceClassification": "HyenaForSequenceClassification",
}
_IDS = "bos_token_id", "eos_token_id", "pad_token_id"  # which a tokenizer has
_MIXERS = {"hyena", "hyena-se", "hyena-mr", "hyena-li", "attention"}
_FILTERS = {"hyena", "explicit", "modal"}


def export(
    model: HyenaPreTrainedModel, directory: str | Path, *, tokenizer: Tokenizer | None = None
) -> None:
    """``model.save_pretrained``, with code beside that runs the model in PyTorch alone, and its
    tokenizer.

    Args:
        model: any of this package's.
        directory: where to; made if it is not there.
        tokenizer: of `hyena.data.load_tokenizer`. Its ids of begin, end and padding stand in the
            folder's configurations; the model keeps its own.

    Raises, before anything is written: TypeError on a model or a tokenizer of another kind;
        ValueError if the model has layers or filters that the code has not, adapters, weights that
        cannot be saved, or a vocabulary smaller than the tokenizer's; OSError.
    """
    if not isinstance(model, HyenaPreTrainedModel):
        advice = "HyenaForCausalLM.from_language_model makes one of a LanguageModel"
        if hasattr(model, "merge_and_unload"):  # of PEFT
            advice = "merge its adapters first: export(model.merge_and_unload(), ...)"
        raise TypeError(
            f"export: expected a model of hyena.huggingface, got {type(model).__name__}; {advice}"
        )
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        raise TypeError(
            "export: expected a tokenizer of hyena.data.load_tokenizer, got "
            f"{type(tokenizer).__name__}; leave it out, and write it beside the model by its own "
            "save_pretrained"
        )
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            "export: the model has adapters of its own, of which save_pretrained writes nothing "
            "else; put them on by peft.get_peft_model, and export what merge_and_unload() gives"
        )
    check_exportable(model.config)
    check_saved(model, directory)
    folder, ids = Path(directory), dict[str, int | None]()
    if tokenizer is not None:
        longest = model.config.max_position_embeddings
        theirs = tokenizer_as_transformers(tokenizer, model_max_length=longest)
        if tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"export: tokenizer {tokenizer.name} has {tokenizer.vocab_size} ids, but the model "
                f"{model.config.vocab_size}; give the one that it was trained with"
            )
        tokenizer.save(folder)  # so that hyena finds it too
        theirs.save_pretrained(folder)
        ids = {name: getattr(theirs, name) for name in _IDS}
    model.save_pretrained(folder)
    for file in CODE.glob("*.py"):
        shutil.copyfile(file, folder / file.name)
    classes = {auto: f"{_MODULE}.{name}" for auto, name in _CLASSES.items()}
    _add(folder / "config.json", {**ids, "auto_map": classes})
    if model.can_generate():
        _add(folder / "generation_config.json", ids)


def _add(file: Path, fields: Mapping[str, Any]) -> None:
    """Writes further fields into a JSON file."""
    written = {**json.loads(file.read_text(encoding="utf-8")), **fields}
    file.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_exportable(config: HyenaConfig) -> None:
    """Raises ValueError if the code that is written beside a model could not run this one."""
    own = config.model_config()
    others = [name for name in dict.fromkeys(own.layer_mixers()) if name not in _MIXERS]
    if "hyena" in own.layer_mixers() and own.filter.kind not in _FILTERS:
        others.append(f"hyena with {own.filter.kind} filters")
    if others:
        raise ValueError(
            f"export: the code for machines without hyena has no {', '.join(others)} layers; "
            "model.save_pretrained writes a folder for those that have it"
        )
