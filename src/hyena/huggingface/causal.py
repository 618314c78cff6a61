"""`HyenaForCausalLM`: a language model that transformers trains, and generates with.

Sizes: B batch, L length, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from hyena.generation.prompts import check_room
from hyena.huggingface.cache import CACHE, HyenaCache
from hyena.huggingface.configuration import HyenaConfig
from hyena.huggingface.pretrained import HyenaPreTrainedModel


class HyenaForCausalLM(HyenaPreTrainedModel, GenerationMixin):
    """The logits of the token after each position, and `generate` from an exact state.

    Args: config.

    Raises: ValueError if the config is of a model that reads both directions.
    """

    _predicts = True

    def __init__(self, config: HyenaConfig) -> None:
        if config.bidirectional:
            raise ValueError(
                "HyenaForCausalLM: the config is of a model that reads both directions, which "
                "predicts no next token; take HyenaForMaskedLM"
            )
        super().__init__(config)

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
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: Tensor | int | None = None,
        past_key_values: HyenaCache | None = None,
        token_type_ids: Tensor | None = None,
    ) -> CausalLMOutputWithPast | tuple[Tensor, ...]:
        """One pass over tokens, all of them or those after a cache.

        Args:
            input_ids: (B, L) int64 or int32.
            attention_mask: (B, L) of any dtype, 1 or True at real tokens, after a cache also with
                the columns of its tokens. Padding at the ends of rows; with a cache on the left,
                before its first tokens.
            cache: of the tokens before, which is advanced in place.
            inputs_embeds: (B, L, D) instead of ``input_ids``.
            labels: (B, L), the tokens themselves: they are shifted here. −100 where none counts.
            use_cache: return a cache of these tokens; `generate` asks for it.
            output_attentions: without effect; there are none.
            output_hidden_states: what goes into each block, and comes after the norm.
            logits_to_keep: logits of the last positions alone, so many, or of those of these
                indices; 0 means all.
            num_items_in_batch: what the sum of the losses is divided by, instead of the labels.
            past_key_values: ``cache``, by its name in earlier versions of transformers.
            token_type_ids: without effect: tokenizers give them, and no layer is of them.

        Returns: ``logits`` (B, L, V), ``loss`` with labels, and what was asked for.
        Raises: ValueError and TypeError, in one line, on what does not fit together, as
            `hyena.LanguageModel.forward` and ``step``.
        """
        cache = self._cache(cache, past_key_values, use_cache)
        if (
            cache is not None
            and cache.state is not None
            and input_ids is not None
            and inputs_embeds is None
            and input_ids.shape[1] == 1
            and _all_real(attention_mask, len(input_ids), cache.get_seq_length() + 1)
            and not (output_hidden_states or self.config.output_hidden_states)
        ):
            last, cache.state = self.model.step(input_ids[:, 0], cache.state)
            logits, seen = last[:, None], None
        else:
            x, seen = self._run(
                input_ids, inputs_embeds, attention_mask, cache, output_hidden_states
            )
            kept = (
                slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            )
            logits = self.model._head(x[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=logits.shape[-1],
                num_items_in_batch=num_items_in_batch,
            )
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            hidden_states=None if seen is None else (*seen, self._last(x)),
            **{CACHE: cache},
        )
        return self._as_asked(output, return_dict)

    def _validate_generated_length(
        self, generation_config: GenerationConfig, input_ids_length: int, *others: Any
    ) -> None:
        super()._validate_generated_length(generation_config, input_ids_length, *others)
        new = generation_config.max_length - input_ids_length
        check_room(self.model.config, input_ids_length, new)

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *others: Any
    ) -> None:
        kind = generation_config.cache_implementation
        if kind not in (None, "dynamic"):
            raise ValueError(
                f"generate: cache_implementation={kind!r} was asked for, but a Hyena model has a "
                "state of its own kind; leave it out"
            )
        if model_kwargs.get(CACHE) is not None or generation_config.use_cache is False:
            super()._prepare_cache_for_generation(generation_config, model_kwargs, *others)
            return
        embedded = model_kwargs.get("inputs_embeds") is not None  # which max_length does not count
        limit = None if embedded else generation_config.max_length - 1
        returned = bool(generation_config.return_dict_in_generate)
        model_kwargs[CACHE] = HyenaCache(limit, keep_inputs=returned)


def _all_real(mask: Tensor | None, batch: int, length: int) -> bool:
    """Whether a mask of the new token, or of all so many, has it real in each row."""
    if mask is None:
        return True
    return tuple(mask.shape) in ((batch, length), (batch, 1)) and bool((mask[:, -1] == 1).all())
