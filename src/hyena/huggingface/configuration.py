"""The configuration of a Hyena model, as transformers has configurations."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, get_args

from transformers import GenerationConfig, PreTrainedConfig

from hyena.arguments import is_truth, shown
from hyena.interop.huggingface import MODEL_TYPE, THEIRS, model_config, public_fields
from hyena.model import ModelConfig
from hyena.model.label_head import Pool
from hyena.model.saved import KIND


class HyenaConfig(PreTrainedConfig):
    """What a Hyena model is made of.

    The fields of `hyena.ModelConfig`, with its defaults. Four have another name, that of
    transformers: ``hidden_size`` is the width, ``num_hidden_layers`` the layers,
    ``max_position_embeddings`` max_length and ``tie_word_embeddings`` tied; as arguments both names
    are taken. ``filter``, ``ssm`` and ``striped`` are dicts of the fields of theirs.

    Args:
        bidirectional: each position sees the whole sequence, for `HyenaForMaskedLM`; of hyena
            layers with hyena filters.
        pool: what `HyenaForSequenceClassification` reads of a sequence, its last token or the mean.
        begin: whether a token that is none of the sequence, such as the end of text, stands before
            it; it is not pooled then.
        bos_token_id, eos_token_id, pad_token_id: ids that `generate` and others ask for.
        fields: of `hyena.ModelConfig`, by either name, and of any configuration of transformers,
            which keeps what it does not know.

    Raises: ValueError, in one line, if the fields do not fit together, a field has two values, or
        an unknown name is nearly one of a field.
    """

    model_type = MODEL_TYPE
    attribute_map: ClassVar[dict[str, str]] = {
        ours: theirs
        for ours, theirs in THEIRS.items()
        if ours != "max_length"  # generate's
    }
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", "past_key_values"]

    def __init__(
        self,
        *,
        bidirectional: bool = False,
        pool: Pool = "last",
        begin: bool = False,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        pad_token_id: int | None = None,
        **fields: Any,
    ) -> None:
        _check_names(fields)
        own = public_fields(model_config(fields))
        for name, value in own.items():
            setattr(self, name, value)
        self.bidirectional, self.pool, self.begin = bidirectional, pool, begin
        self._check_own()
        self.bos_token_id, self.eos_token_id = bos_token_id, eos_token_id
        self.pad_token_id = pad_token_id
        taken = {*own, *THEIRS}
        super().__init__(**{name: value for name, value in fields.items() if name not in taken})

    @classmethod
    def from_model_config(cls, config: ModelConfig, **others: Any) -> HyenaConfig:
        """The configuration of a `hyena.LanguageModel`, with ``others`` of this one's arguments."""
        return cls(**public_fields(config), **others)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **changes: Any) -> Any:
        """As of any configuration of transformers, with ``changes`` of its fields.

        Raises: ValueError if they give a field two values, or nearly have a field's name.
        """
        _check_names(changes)
        if "max_length" in changes:  # which is not in attribute_map
            changes[THEIRS["max_length"]] = changes.pop("max_length")
        return super().from_dict(config_dict, **changes)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: Any, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What ``config.json`` says, for ``from_pretrained``.

        Raises: FileNotFoundError if there is none; ValueError if it is of no model of this kind: a
            new one would be made of it.
        """
        found, others = super().get_config_dict(pretrained_model_name_or_path, **options)
        path = str(pretrained_model_name_or_path)
        if not found:
            raise FileNotFoundError(f"{path} has no config.json; give the folder of a saved model")
        if found.get("kind") == KIND:
            raise ValueError(
                f"{path} is a folder of hyena, which from_pretrained does not read; call "
                f"HyenaForCausalLM.from_language_model(hyena.load({path!r}))"
            )
        if found.get("model_type") != cls.model_type:
            raise ValueError(
                f"{path}: expected a config.json of model_type {cls.model_type!r}, got "
                f"{shown(found.get('model_type'))}; open it with AutoModel"
            )
        return found, others

    def model_config(self) -> ModelConfig:
        """That of the `hyena.LanguageModel` inside. Raises: ValueError if a field has been set to
        what cannot be."""
        self._check_own()
        names = public_fields(ModelConfig())
        return model_config({name: getattr(self, name) for name in names})

    def _check_own(self) -> None:
        """Raises ValueError if a field that `hyena.ModelConfig` has not is what it cannot be."""
        if self.pool not in get_args(Pool):
            raise ValueError(f"HyenaConfig: expected pool last or mean, got {shown(self.pool)}")
        for name in ("bidirectional", "begin"):
            value = getattr(self, name)
            if not is_truth(value):
                raise ValueError(f"HyenaConfig: expected {name} True or False, got {shown(value)}")


_FIELDS = {*public_fields(ModelConfig()), *THEIRS, "bidirectional", "pool", "begin"}
_NEAR = 0.75  # of the letters, from where on a name is taken for one with a mistake


def _check_names(given: Mapping[str, Any]) -> None:
    """Raises ValueError on two values of a field, and on the name of a field with a mistake."""
    for ours, theirs in THEIRS.items():
        if ours in given and theirs in given and given[ours] != given[theirs]:
            raise ValueError(
                f"HyenaConfig: {ours}={shown(given[ours])} and {theirs}={shown(given[theirs])} are "
                "one field by two names; give one of them"
            )
    for name in given:
        if name in _FIELDS or hasattr(PreTrainedConfig, name) or hasattr(GenerationConfig(), name):
            continue
        if near := get_close_matches(name, _FIELDS, 1, _NEAR):
            raise ValueError(f"HyenaConfig has no field {name!r}; is {near[0]!r} meant?")
