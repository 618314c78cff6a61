"""The configuration of a Hyena model, as transformers has configurations."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import PreTrainedConfig

from hyena.interop.huggingface import MODEL_TYPE, THEIRS, model_config, public_fields
from hyena.model import ModelConfig
from hyena.model.label_head import Pool


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
        fields: of `hyena.ModelConfig`, by either name, and of any configuration of transformers.

    Raises: ValueError, in one line, if the fields do not fit together.
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
        own = public_fields(model_config(fields))
        for name, value in own.items():
            setattr(self, name, value)
        if pool not in ("last", "mean"):
            raise ValueError(f"HyenaConfig: expected pool last or mean, got {pool!r}")
        self.bidirectional, self.pool, self.begin = bidirectional, pool, begin
        self.bos_token_id, self.eos_token_id = bos_token_id, eos_token_id
        self.pad_token_id = pad_token_id
        taken = {*own, *THEIRS}
        super().__init__(**{name: value for name, value in fields.items() if name not in taken})

    @classmethod
    def from_model_config(cls, config: ModelConfig, **others: Any) -> HyenaConfig:
        """The configuration of a `hyena.LanguageModel`, with ``others`` of this one's arguments."""
        return cls(**public_fields(config), **others)

    def model_config(self) -> ModelConfig:
        """That of the `hyena.LanguageModel` inside. Raises: ValueError if a field has been set to
        what cannot be."""
        names = public_fields(ModelConfig())
        return model_config({name: getattr(self, name) for name in names})
