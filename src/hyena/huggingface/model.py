"""`HyenaModel`: the layers of a language model without its head.

Sizes: B batch, L length, D width.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPast

from hyena.huggingface.cache import CACHE, HyenaCache
from hyena.huggingface.pretrained import OF_HEAD, HyenaPreTrainedModel


class HyenaModel(HyenaPreTrainedModel):
    """What the layers make of tokens: the residual stream after all of them and the norm.

    Args: config.
    """

    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [OF_HEAD]

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
    ) -> BaseModelOutputWithPast | tuple[Tensor, ...]:
        """As `HyenaForCausalLM.forward`, without labels.

        Returns: ``last_hidden_state`` (B, L, D), and what was asked for.
        """
        cache = self._cache(cache, past_key_values, use_cache)
        x, seen = self._run(input_ids, inputs_embeds, attention_mask, cache, output_hidden_states)
        last = self._last(x)
        output = BaseModelOutputWithPast(
            last_hidden_state=last,
            hidden_states=None if seen is None else (*seen, last),
            **{CACHE: cache},
        )
        return self._as_asked(output, return_dict)
