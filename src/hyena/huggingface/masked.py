"""`HyenaForMaskedLM`: a model of both directions that fills in masked tokens.

Sizes: B batch, L length, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor
from transformers.modeling_outputs import MaskedLMOutput

from hyena.huggingface.configuration import HyenaConfig
from hyena.huggingface.pretrained import HyenaPreTrainedModel


class HyenaForMaskedLM(HyenaPreTrainedModel):
    """The logits of the token at each position, which sees the whole sequence.

    Its mixers are `hyena.HyenaOperator` with ``bidirectional=True``: one filter over the lags
    −(L−1) … L−1. Their parameters have other names than causal ones.

    Args: config, with ``bidirectional=True``.

    Raises: ValueError if the config is of a causal model.
    """

    _predicts = True

    def __init__(self, config: HyenaConfig) -> None:
        if not config.bidirectional:
            raise ValueError(
                "HyenaForMaskedLM: the config is of a causal model; give "
                "HyenaConfig(bidirectional=True, ...)"
            )
        super().__init__(config)

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
    ) -> MaskedLMOutput | tuple[Tensor, ...]:
        """As `HyenaForCausalLM.forward`, but for ``labels``: (B, L), the tokens in the places of
        masked ones, −100 elsewhere. Without ``attention_mask``, ``config.pad_token_id`` tells the
        padding at the ends of rows of ``input_ids``."""
        x, seen = self._run(input_ids, inputs_embeds, attention_mask, None, output_hidden_states)
        logits = self.model._head(x)
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=logits.shape[-1],
                num_items_in_batch=num_items_in_batch,
            )
        output = MaskedLMOutput(
            loss=loss,
            logits=logits,
            hidden_states=None if seen is None else (*seen, self._last(x)),
        )
        return self._as_asked(output, return_dict)
