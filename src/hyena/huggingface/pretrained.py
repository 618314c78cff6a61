"""What all Hyena classes of transformers share: a `hyena.LanguageModel`, and how it is made, filled
and given another vocabulary.

Sizes: V vocabulary, D width.
"""

from __future__ import annotations

import dataclasses
from os import PathLike
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from hyena.generation.model import check_model
from hyena.huggingface.bidirectional import make_bidirectional
from hyena.huggingface.cache import HyenaCache, check_cache
from hyena.huggingface.configuration import HyenaConfig
from hyena.huggingface.folders import check_length, check_saved, sparing_filters
from hyena.huggingface.passes import enter, given, remember, through
from hyena.interop.loading import in_dtype
from hyena.interop.pytorch_file import ALIGNED
from hyena.model import LanguageModel
from hyena.model.initialization import embedding
from hyena.model.norm import normalize

OF_HEAD = r"^model\.head\."
"""The names of a head of tokens, which only some classes have."""

Self = TypeVar("Self", bound="HyenaPreTrainedModel")


class HyenaPreTrainedModel(PreTrainedModel):
    """The parameters of a `hyena.LanguageModel`, under its names behind ``model.``, and with the
    initial values that it gives them.

    What filters are computed from stays in float32 where a model is loaded in fewer bits.

    Attributes: ``model``, the `hyena.LanguageModel`.
    """

    config_class = HyenaConfig
    config: HyenaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    model: LanguageModel
    _no_split_modules: ClassVar[list[str]] = ["Block"]
    _is_stateful = True  # a state goes forward only: no assisted decoding
    _predicts: ClassVar[bool] = False  # whether a head of its own, if not tied, is part of it

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__(config)
        for name, part in self._parts(config).items():
            self.add_module(name, part)
        for x in (*self.parameters(), *self.buffers()):
            x._is_hf_initialized = not x.is_meta
        self.post_init()

    @classmethod
    def _parts(cls, config: HyenaConfig) -> dict[str, nn.Module]:
        """The modules of a new model, by name."""
        model = LanguageModel(config.model_config())
        if config.bidirectional:
            make_bidirectional(model)
        if not cls._predicts:
            model.head = None
        dtype = torch.get_default_dtype()
        return {"model": in_dtype(model, dtype) if dtype.itemsize < 4 else model}

    def _cache(
        self, cache: HyenaCache | None, past_key_values: HyenaCache | None, use_cache: bool | None
    ) -> HyenaCache | None:
        """The cache that a forward pass is given by either name, or a new one if that is asked
        for."""
        cache = past_key_values if cache is None else cache
        check_cache(cache)
        return HyenaCache() if cache is None and use_cache else cache

    def _run(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        attention_mask: Tensor | None,
        cache: HyenaCache | None,
        output_hidden_states: bool | None,
    ) -> tuple[Tensor, list[Tensor] | None]:
        """The residual stream (B, L, D) after all blocks, and what went into each of them if that
        is asked for."""
        check_one_device(self)
        name = type(self).__name__
        if self.config.bidirectional:
            attention_mask = self._mask(input_ids, attention_mask)
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        seen: list[Tensor] | None = [] if output_hidden_states else None
        before = 0 if cache is None else cache.get_seq_length()
        inputs = given(name, input_ids, inputs_embeds, attention_mask, before)
        if cache is not None:
            return remember(self.model, name, inputs, cache, seen), seen
        x = enter(self.model, name, inputs)
        causal = not self.config.bidirectional
        return through(self.model, x, inputs.mask, seen, causal=causal), seen

    def _mask(self, input_ids: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
        """The mask; if there is none, that of the padding which ``config.pad_token_id`` tells:
        before the first other token of a row and after the last one.

        Texts begin with ``config.bos_token_id``. If that is the padding too, the one right before
        the first other token is real, or the first of a row that has no other.
        """
        padding = self.config.pad_token_id
        if attention_mask is not None or input_ids is None or padding is None:
            return attention_mask
        token = input_ids != padding
        real = (token.cumsum(1) > 0) & (token.flip(1).cumsum(1).flip(1) > 0)
        if padding == self.config.bos_token_id:
            real = real | F.pad(real[:, 1:], (0, 1))
            real[:, :1] |= ~real.any(1, keepdim=True)
        return real

    def _last(self, x: Tensor) -> Tensor:
        """What heads read: the stream after the norm."""
        model = self.model
        return normalize(model.norm, x, model.embedding if model.head is None else model.head)

    def _as_asked(self, output: ModelOutput, return_dict: bool | None) -> Any:
        wanted = self.config.return_dict if return_dict is None else return_dict
        return output if wanted else output.to_tuple()

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """What files lack gets the value that it has in a new model."""
        for name, part in self.named_children():
            known = {**dict(part.named_parameters()), **dict(part.named_buffers())}
            lacking = [n for n, x in known.items() if not getattr(x, "_is_hf_initialized", False)]
            if lacking:
                with torch.device("cpu"):
                    new = self._parts(self.config)[name].state_dict()
                for n in lacking:
                    known[n].copy_(new[n])

    @classmethod
    def from_pretrained(cls, *arguments: Any, **options: Any) -> Any:
        """As of any model of transformers. The weights lie in memory of their own, not in the file,
        where they do not start at multiples of 64 bytes and products round differently. A
        quantisation leaves filters as they are, as `hyena.model.outside_filters` does.

        Raises: ValueError, in one line, on a folder of hyena or of another kind of model, on
            another ``max_position_embeddings`` than the folder's, and on a ``quantization_config``
            of a kind that has no ``modules_to_not_convert``, by which filters are left out.
        """
        if options.get("quantization_config") is not None:
            options["quantization_config"] = sparing_filters(options["quantization_config"])
        found = super().from_pretrained(*arguments, **options)
        model = found[0] if isinstance(found, tuple) else found
        if (arguments or (options.get("pretrained_model_name_or_path"),))[0] is not None:
            check_length(model, options)
        for x in (*model.parameters(), *model.buffers()):
            plain = type(x) in (Tensor, nn.Parameter) and x.device.type == "cpu"
            if plain and x.data_ptr() % ALIGNED:
                x.data = x.data.clone()
        return found

    def save_pretrained(
        self, save_directory: str | PathLike[str], *arguments: Any, **options: Any
    ) -> None:
        """As of any model of transformers.

        Raises, before anything is written: FileExistsError if there is a file of that name;
            ValueError on weights that ``from_pretrained`` would not find or could not read.
        """
        check_saved(self, save_directory)
        super().save_pretrained(save_directory, *arguments, **options)

    def _check_and_adjust_attn_implementation(
        self, attn_implementation: str | None, *arguments: Any, **options: Any
    ) -> str:
        if attn_implementation not in (None, "eager"):
            raise ValueError(
                f"{type(self).__name__}: attn_implementation={attn_implementation!r} was asked "
                "for, but there is one implementation of these layers alone; leave it out"
            )
        return "eager"

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether blocks are recomputed in the backward pass: ``activation_checkpointing`` of the
        `hyena.LanguageModel`."""
        return self.model.activation_checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.model.activation_checkpointing = value

    def _set_gradient_checkpointing(
        self,
        enable: bool = True,
        gradient_checkpointing_func: Any = None,
        every_n_layers: int = 1,
    ) -> None:
        if every_n_layers != 1:
            raise ValueError(
                "gradient checkpointing of a Hyena model is of every block, got every_n_layers="
                f"{every_n_layers}; leave it out"
            )
        self.gradient_checkpointing = enable

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: Any) -> None:
        """Puts another embedding in its place."""
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        """The head, None where the embedding is the head as well."""
        return self.model.head

    def set_output_embeddings(self, new_embeddings: Any) -> None:
        if self.model.head is None:
            raise ValueError(
                f"{type(self).__name__}: it has no head of its own; set its input embeddings"
            )
        self.model.head = new_embeddings

    @torch.no_grad()
    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Module:
        """Makes the vocabulary larger or smaller, in the embedding and a head of its own.

        Args:
            new_num_tokens: V; as it is if not given.
            pad_to_multiple_of: the rows are padded to a multiple of this, and padding is never
                predicted; the config's ``vocab_multiple`` if not given.
            mean_resizing: new tokens begin as the mean of the old ones; else as in a new model.

        Returns: the embedding.
        Raises: ValueError, with nothing changed, if there can be no such vocabulary.
        """
        size = self.config.vocab_size if new_num_tokens is None else int(new_num_tokens)
        multiple = pad_to_multiple_of
        multiple = self.config.vocab_multiple if multiple is None else multiple
        before = self.model.config
        after = dataclasses.replace(before, vocab_size=size, vocab_multiple=multiple)
        self.config.vocab_size, self.config.vocab_multiple = size, multiple
        if after == before:
            return self.model.embedding
        self.model.config = after
        for name in ("embedding", "head"):
            layer: Any = getattr(self.model, name)
            if layer is None:
                continue
            old: Tensor = layer.weight
            place = {"device": old.device, "dtype": old.dtype}
            rows = embedding(after.padded_vocab, after.width, **place).weight.normal_(std=0.02)
            if mean_resizing:
                rows[:] = old[: before.vocab_size].mean(0)
            kept = min(before.vocab_size, size)
            rows[:kept] = old[:kept]
            layer.weight = nn.Parameter(rows.detach(), requires_grad=old.requires_grad)
            count = "num_embeddings" if name == "embedding" else "out_features"
            setattr(layer, count, after.padded_vocab)
        return self.model.embedding

    @classmethod
    def from_language_model(cls: type[Self], model: LanguageModel, **others: Any) -> Self:
        """The model as one of this class, which takes it over: its weights are the same.

        Args:
            model: such as `hyena.load` gives.
            others: arguments of `HyenaConfig` besides what the model says.

        Raises: TypeError if it is none; ValueError if it has a head for labels, and this class has
            none, or if it reads both directions and ``bidirectional`` is not True, or the reverse.
        """
        check_model(f"{cls.__name__}.from_language_model", model, LanguageModel)
        config = HyenaConfig.from_model_config(dataclasses.replace(model.config), **others)
        with torch.device("meta"):
            made = cls(config)
        made._take_over(model)
        made.config.dtype = made.dtype
        return made.train(model.training)

    def _take_over(self, model: LanguageModel) -> None:
        if model.label_head is not None:
            raise ValueError(
                f"{type(self).__name__}: the model has a head for labels, which this class has "
                "not; take HyenaForSequenceClassification, or set model.label_head = None"
            )
        self._check_directions(model)
        if not self._predicts:
            model.head = None
        self.model = model

    def _check_directions(self, model: LanguageModel) -> None:
        """Raises ValueError unless the mixers read what the config says."""
        both = any(getattr(block.mixer, "bidirectional", False) for block in model._blocks())
        if both != bool(self.config.bidirectional):
            reads = "both directions" if both else "only what comes before"
            raise ValueError(
                f"{type(self).__name__}: expected a model of bidirectional="
                f"{self.config.bidirectional}, got one whose layers read {reads}; a model is "
                "trained for one of them, and is taken over as that"
            )


def check_one_device(model: PreTrainedModel) -> None:
    """Raises ValueError if parts of it lie on several devices, or on the disk: hooks that fetch
    them would not see all that is read of them."""
    places = set(getattr(model, "hf_device_map", {}).values())
    if len(places) > 1 or "disk" in places:
        raise ValueError(
            f"{type(model).__name__}: expected the whole model on one device, got parts on "
            f"{', '.join(sorted(map(str, places)))}; load it with device_map='cpu' or of one device"
        )
