"""Hyena models in PyTorch and transformers alone, for folders that ``trust_remote_code=True`` opens
where the package hyena is not installed. The package has the same functions, faster: with it,
``import hyena.huggingface`` makes the Auto classes take its own.

Poli et al. 2023 (arXiv:2302.10866). Apache-2.0, part of the package hyena.

Sizes: B batch, L length, t positions of a cache, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
)
from transformers.models.auto import modeling_auto
from transformers.utils import is_torchdynamo_compiling

from .layers_hyena import Block, build_norm, normalize, wide, widen_filters

CACHE = next(
    f.name for f in fields(CausalLMOutputWithPast) if f.name in ("cache", "past_key_values")
)
# Of a class that is not in this table, Trainer does not shift labels where it smooths them.
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["hyena"] = "HyenaForCausalLM"


class HyenaConfig(PreTrainedConfig):
    """The fields are those that the package writes; ``config.json`` has all of them."""

    model_type = "hyena"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["cache", "past_key_values"]

    def __init__(self, **fields: Any) -> None:
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            fields.setdefault(name, None)
        super().__init__(**fields)

    def layer(self, names: str, index: int, last_stays: bool = False) -> str:
        """That of a comma-separated list which a layer has; the list repeats, or its last stays."""
        each = [name.strip() for name in names.split(",")]
        return each[min(index, len(each) - 1) if last_stays else index % len(each)]


class HyenaCache(Cache):
    """What each layer remembers of the tokens so far: inputs of convolutions, keys and values."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[])
        # of each layer, tensors with the batch first
        self.parts: list[dict[str, Tensor]] = [{} for _ in range(layers)]
        self.taps: list[Tensor | None] = [None] * layers  # of each layer, its filters
        self.length = 0

    def __len__(self) -> int:
        return len(self.parts)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.length

    def get_max_length(self, layer_idx: int | None = None) -> int:
        return -1

    def get_mask_sizes(self, query_length: Any, layer_idx: int = 0) -> tuple[int, int]:
        return self.length + int(query_length), 0

    def has_previous_state(self, layer_idx: Any = None, state_idx: Any = None) -> bool:
        return self.length > 0

    def reset(self) -> None:
        self.parts, self.length = [{} for _ in self.parts], 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        for part in self.parts:
            for name, value in part.items():
                part[name] = value.index_select(0, beam_idx.to(value.device))

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        for part in self.parts:
            for name, value in part.items():
                part[name] = value.repeat_interleave(repeats, dim=0)

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove:
            raise ValueError("HyenaCache.crop: no tokens can be taken back; copy the cache before")

    is_compileable = is_croppable = property(lambda self: False)
    is_initialized = property(lambda self: self.length > 0)
    is_linear = property(lambda self: [False])

    def extend(self, layer: int, name: str, value: Tensor, dim: int) -> Tensor:
        """What a layer has under a name, with more behind it."""
        part = self.parts[layer]
        if name in part:
            value = torch.cat([part[name], value], dim=dim)
        part[name] = value
        return value


class LanguageModel(nn.Module):
    """Embedding, blocks and norm, and a head of its own unless the embedding is the head."""

    def __init__(self, config: HyenaConfig, head: bool) -> None:
        super().__init__()
        self.config, width = config, config.hidden_size
        rows = -(-config.vocab_size // config.vocab_multiple) * config.vocab_multiple
        self.embedding = nn.Embedding(rows, width)
        self.positions = self.head = None
        if config.positions == "learned":
            self.positions = nn.Embedding(config.max_position_embeddings, width)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = build_norm(config)
        if head and not config.tie_word_embeddings:
            self.head = nn.Linear(width, rows, bias=False)
        self.checkpointing = False

    def forward(
        self,
        input_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        mask: Tensor | None,
        cache: HyenaCache | None,
        seen: list[Tensor] | None,
    ) -> Tensor:
        """The residual stream (B, L, D) after all blocks."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected input_ids or inputs_embeds, and not both")
        if input_ids is not None:
            self.check(input_ids)
        x = self.embedding(input_ids) if inputs_embeds is None else inputs_embeds
        x, L, config = x.to(wide(x.dtype)), x.shape[1], self.config
        before = 0 if cache is None else cache.length
        mask = self.real(mask, x.shape[:2], cache)
        longest, policy = config.max_position_embeddings, config.length_policy
        fixed = policy == "interpolate" and (before or mask is not None or cache is not None)
        if before + L > longest and (policy == "error" or fixed):
            raise ValueError(f"{before + L} tokens, but max_position_embeddings is {longest}")
        if self.positions is not None:
            if mask is not None:
                raise ValueError("learned positions count columns: run rows of one length")
            x = x + self.positions(torch.arange(before, before + L, device=x.device)).to(x.dtype)
        x = F.dropout(x, config.dropout, self.training)
        recompute = self.checkpointing and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if seen is not None:
                seen.append(x)
            given = (x, mask, cache)
            x = checkpoint(block, *given, use_reentrant=False) if recompute else block(*given)
        if cache is not None:
            cache.length += L
        return x

    def check(self, ids: Tensor) -> None:
        """Raises ValueError on ids that no token has."""
        if ids.device.type == "cpu" and ids.numel() and not is_torchdynamo_compiling():
            low, high = (int(x) for x in ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                wrong, size = low if low < 0 else high, self.config.vocab_size
                raise ValueError(f"token id {wrong} is outside the vocabulary of {size}")

    def real(
        self, mask: Tensor | None, shape: torch.Size, cache: HyenaCache | None
    ) -> Tensor | None:
        """Which of the new tokens are real, (B, L) bool; None if all are."""
        if mask is None:
            return None
        whole = (shape[0], shape[1] + (0 if cache is None else cache.length))
        if tuple(mask.shape) not in (whole, tuple(shape)):
            raise ValueError(f"expected attention_mask {whole}, got {tuple(mask.shape)}")
        if bool(((mask != 0) & (mask != 1)).any()) or not bool(mask.any()):
            raise ValueError(
                "expected attention_mask of 1 at real tokens and 0 at padding, got other numbers "
                "or 0 everywhere; of a mask that is added to scores give mask == 0"
            )
        new = (mask != 0)[:, mask.shape[1] - shape[1] :]
        if bool(new.all()):
            return None
        if cache is not None and cache.length:
            raise ValueError("padding after the first tokens of a cache; pad those on the left")
        stops = new[:, :-1] & ~new[:, 1:]
        if cache is not None and (bool(stops.any()) or not bool(new[:, -1].all())):
            raise ValueError(
                "expected padding on the left only, got rows with padding at the end or between "
                "tokens; move their tokens to the right end"
            )
        gaps = "attention" not in self.config.mixers.split(",")[0] or "hyena" in self.config.mixers
        starts = new & ~F.pad(new, (1, 0))[:, :-1]
        if gaps and bool((starts.sum(1) > 1).any()):
            raise ValueError("padding between real tokens; move the real tokens together")
        return new

    def last(self, x: Tensor) -> Tensor:
        return normalize(self.norm, x)

    def logits(self, x: Tensor) -> Tensor:
        weight = self.embedding.weight if self.head is None else self.head.weight
        return F.linear(self.last(x).to(weight.dtype), weight[: self.config.vocab_size])


class HyenaPreTrainedModel(PreTrainedModel):
    """What all classes share."""

    config_class = HyenaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = True
    _no_split_modules: ClassVar[list[str]] = ["Block"]
    _is_stateful = True
    _predicts = _causal = False
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"^model\.head\."]

    def __init__(self, config: HyenaConfig) -> None:
        super().__init__(config)
        if self._predicts and config.bidirectional == self._causal:
            raise ValueError(f"{type(self).__name__} needs bidirectional={not self._causal}")
        self.model = LanguageModel(config, self._predicts)
        self.add_head(config)
        widen_filters(self.model)
        self.post_init()

    def add_head(self, config: HyenaConfig) -> None:
        """A head beside the layers, if the class has one."""

    @property
    def gradient_checkpointing(self) -> bool:
        return self.model.checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        self.model.checkpointing = value

    def get_input_embeddings(self) -> nn.Module:
        return self.model.embedding

    def set_input_embeddings(self, value: Any) -> None:
        self.model.embedding = value

    def get_output_embeddings(self) -> nn.Module | None:
        return self.model.head

    @torch.no_grad()
    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Module:
        """Another vocabulary, in rows padded to ``vocab_multiple``; padding is never predicted.
        New tokens begin as the mean of the old ones, or as in a new model."""
        config, before = self.config, self.config.vocab_size
        size = before if new_num_tokens is None else int(new_num_tokens)
        multiple = pad_to_multiple_of or config.vocab_multiple
        if min(size, multiple) < 1:
            raise ValueError(f"expected a vocabulary of 1 token or more, got {size}")
        if (size, multiple) == (before, config.vocab_multiple):
            return self.model.embedding
        config.vocab_size, config.vocab_multiple = size, multiple
        count, kept = -(-size // multiple) * multiple, min(before, size)
        for layer in (self.model.embedding, self.model.head):
            if layer is None:
                continue
            old: Tensor = layer.weight
            rows = old.new_empty(count, old.shape[1]).normal_(std=0.02)
            if mean_resizing:
                rows[:] = old[:before].mean(0)
            rows[:kept] = old[:kept]
            layer.weight = nn.Parameter(rows, requires_grad=old.requires_grad)
            size_of = "out_features" if layer is self.model.head else "num_embeddings"
            setattr(layer, size_of, count)
        return self.model.embedding

    def padding(self, ids: Tensor | None, mask: Tensor | None) -> Tensor | None:
        """The mask, or what ``pad_token_id`` tells of one: padding before the first other token of
        a row and after the last. Where texts begin with it, one of it there is real."""
        pad = self.config.pad_token_id
        if mask is not None or ids is None or pad is None:
            return mask
        token = ids != pad
        real = (token.cumsum(1) > 0) & (token.flip(1).cumsum(1).flip(1) > 0)
        if pad == self.config.bos_token_id:
            real = real | F.pad(real[:, 1:], (0, 1))
            real[:, :1] |= ~real.any(1, keepdim=True)
        return real

    def run(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        cache: HyenaCache | None,
        hidden: bool | None,
    ) -> tuple[Tensor, tuple[Tensor, ...] | None]:
        """The stream after all blocks, and what went into each of them if that is asked for."""
        seen: list[Tensor] | None = (
            [] if hidden or (hidden is None and self.config.output_hidden_states) else None
        )
        if self.config.bidirectional:
            attention_mask = self.padding(input_ids, attention_mask)
        x = self.model(input_ids, inputs_embeds, attention_mask, cache, seen)
        return x, None if seen is None else (*seen, self.model.last(x))

    def cache(self, given: Any, use_cache: bool | None) -> HyenaCache | None:
        """The cache that a pass is given, or a new one if that is asked for."""
        if given is not None and not isinstance(given, HyenaCache):
            raise TypeError(
                f"expected as {CACHE} a HyenaCache, got {type(given).__name__}; leave it out, or "
                "give what this model returned"
            )
        return HyenaCache(self.config.num_hidden_layers) if given is None and use_cache else given

    def answer(self, output: Any, return_dict: bool | None) -> Any:
        wanted = self.config.return_dict if return_dict is None else return_dict
        return output if wanted else output.to_tuple()


class HyenaModel(HyenaPreTrainedModel):
    """The stream (B, L, D) after all blocks and the norm."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: HyenaCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        past_key_values: HyenaCache | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Any:
        cache = self.cache(past_key_values if cache is None else cache, use_cache)
        given = input_ids, attention_mask, inputs_embeds, cache
        x, hidden = self.run(*given, output_hidden_states)
        last, kept = self.model.last(x), {CACHE: cache}
        return self.answer(BaseModelOutputWithPast(last, hidden_states=hidden, **kept), return_dict)


class HyenaForCausalLM(HyenaPreTrainedModel, GenerationMixin):
    """The logits (B, L, V) of the token after each position."""

    _predicts = _causal = True
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = []

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        cache: HyenaCache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        logits_to_keep: Any = 0,
        num_items_in_batch: Tensor | int | None = None,
        past_key_values: HyenaCache | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Any:
        cache = self.cache(past_key_values if cache is None else cache, use_cache)
        given = input_ids, attention_mask, inputs_embeds, cache
        x, hidden = self.run(*given, output_hidden_states)
        few = isinstance(logits_to_keep, int)
        logits = self.model.logits(x[:, slice(-logits_to_keep, None) if few else logits_to_keep])
        options = {"vocab_size": logits.shape[-1], "num_items_in_batch": num_items_in_batch}
        loss = None if labels is None else self.loss_function(logits, labels, **options)
        output = CausalLMOutputWithPast(loss, logits, hidden_states=hidden, **{CACHE: cache})
        return self.answer(output, return_dict)

    def _validate_generated_length(
        self, generation_config: Any, input_ids_length: int, *others: Any
    ) -> None:
        super()._validate_generated_length(generation_config, input_ids_length, *others)
        config, longest = self.config, self.config.max_position_embeddings
        table = config.positions == "learned" or any(
            getattr(part, "encoding", None) is not None for part in self.model.modules()
        )
        fed = generation_config.max_length - 1
        if fed > longest and (table or config.length_policy != "extrapolate"):
            raise ValueError(
                f"a prompt of {input_ids_length} tokens and {fed + 1 - input_ids_length} new do "
                f"not fit max_position_embeddings, {longest}; shorten the prompt, or ask for fewer"
            )

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *others: Any
    ) -> None:
        if generation_config.cache_implementation not in (None, "dynamic"):
            raise ValueError("a Hyena model has a cache of its own; leave cache_implementation out")
        if model_kwargs.get(CACHE) is None and generation_config.use_cache is not False:
            model_kwargs[CACHE] = HyenaCache(self.config.num_hidden_layers)


class HyenaForMaskedLM(HyenaPreTrainedModel):
    """The logits (B, L, V) of the token at each position, which sees all others."""

    _predicts = True
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = []

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Any:
        given = input_ids, attention_mask, inputs_embeds, None
        x, hidden = self.run(*given, output_hidden_states)
        logits = self.model.logits(x)
        options = {"vocab_size": logits.shape[-1], "num_items_in_batch": num_items_in_batch}
        loss = None if labels is None else self.loss_function(logits, labels, **options)
        return self.answer(MaskedLMOutput(loss, logits, hidden), return_dict)


class LabelHead(nn.Module):
    """The logits of labels of a sequence."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, labels)

    def forward(self, x: Tensor, real: Tensor, pool: str) -> Tensor:
        """The last real position or their mean, of x (B, L, D), in float32 or wider."""
        x = x.to(wide(x.dtype))
        if pool == "last":
            last = torch.arange(x.shape[1], device=x.device).masked_fill(~real, -1).amax(1)
            x = x[torch.arange(len(x), device=x.device), last]
        else:
            x = x.masked_fill(~real[..., None], 0).sum(1) / real.sum(1, keepdim=True)
        return F.linear(x, self.linear.weight.to(x.dtype), self.linear.bias.to(x.dtype))


class HyenaForSequenceClassification(HyenaPreTrainedModel):
    """Classes or numbers of a sequence."""

    score: LabelHead
    accepts_loss_kwargs = False

    def add_head(self, config: HyenaConfig) -> None:
        self.score = LabelHead(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Any:
        attention_mask = self.padding(input_ids, attention_mask)
        given = input_ids, attention_mask, inputs_embeds, None
        x, hidden = self.run(*given, output_hidden_states)
        real = x.new_ones(x.shape[:2], dtype=torch.bool)
        real = real if attention_mask is None else attention_mask != 0
        real = real & (real.cumsum(1) > 1) if self.config.begin else real
        seen = not (is_torchdynamo_compiling() or real.is_meta)
        if seen and not bool(real.any(1).all()):
            raise ValueError("a row of the batch has no token to read; leave it out")
        logits = self.score(self.model.last(x), real, self.config.pool)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config)
        return self.answer(SequenceClassifierOutput(loss, logits, hidden), return_dict)
