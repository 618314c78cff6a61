"""`HyenaForSequenceClassification`: classes or numbers of a sequence.

Sizes: B batch, L length, C classes, or targets of a regression.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from hyena.generation.model import check_model
from hyena.huggingface.configuration import HyenaConfig
from hyena.huggingface.pretrained import OF_HEAD, HyenaPreTrainedModel, Self
from hyena.interop.huggingface import labels_of
from hyena.model import LanguageModel
from hyena.model.label_head import LabelHead
from hyena.model.norm import normalize
from hyena.ops.observed import compiling


class HyenaForSequenceClassification(HyenaPreTrainedModel):
    """A head for labels on what the layers make of a sequence: `hyena.model.label_head.LabelHead`,
    computed in float32 or wider.

    ``config.pool`` says whether it reads the last token or the mean; in a causal model the last one
    alone has read all others.

    Args: config; ``num_labels``, ``id2label`` and ``problem_type`` as in any of transformers.

    Attributes: ``score``, the head.
    """

    score: LabelHead
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [OF_HEAD]
    accepts_loss_kwargs = False  # of a mean over sequences, which Trainer divides by itself

    @classmethod
    def _parts(cls, config: HyenaConfig) -> dict[str, nn.Module]:
        parts = super()._parts(config)
        labels = labels_of(config.to_dict(), config.num_labels)
        return {**parts, "score": LabelHead(config.hidden_size, labels)}

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
    ) -> SequenceClassifierOutput | tuple[Tensor, ...]:
        """As `HyenaForCausalLM.forward`, without a cache.

        Without ``attention_mask``, ``config.pad_token_id`` tells the padding at the ends of rows of
        ``input_ids``, as with the causal models of transformers; if it is None, all tokens count.

        Args: labels: (B,) classes, (B,) or (B, C) numbers of a regression, or (B, C) of floats
            where several classes hold at once.

        Returns: ``logits`` (B, C), ``loss`` with labels, and hidden states if they were asked for.
        Raises: as `HyenaForCausalLM.forward`; ValueError on a row without a token to read.
        """
        attention_mask = self._mask(input_ids, attention_mask)
        x, seen = self._run(input_ids, inputs_embeds, attention_mask, None, output_hidden_states)
        real = self._real(x, attention_mask)
        logits = self.score(normalize(self.model.norm, x, self.score), real, pool=self.config.pool)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        output = SequenceClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=None if seen is None else (*seen, self._last(x)),
        )
        return self._as_asked(output, return_dict)

    def _real(self, x: Tensor, attention_mask: Tensor | None) -> Tensor:
        """Which positions are tokens of the sequences, (B, L) bool."""
        if attention_mask is None:
            real = x.new_ones(x.shape[:2], dtype=torch.bool)
        else:
            real = attention_mask != 0
        if self.config.begin:
            real = real & (real.cumsum(1) > 1)
        if not (compiling() or real.is_meta) and not bool(real.any(1).all()):
            row = real.any(1).tolist().index(False)
            after = ", after the one that begins it" if self.config.begin else ""
            raise ValueError(
                f"{type(self).__name__}: row {row} of the batch has no token to read{after}; leave "
                "it out, or mend its attention_mask"
            )
        return real

    @torch.no_grad()
    def _take_over(self, model: LanguageModel) -> None:
        """A head for labels that the model has becomes this one's, a regression's in the units of
        its targets."""
        head = model.label_head
        if head is not None and len(head.labels.names) != self.config.num_labels:
            raise ValueError(
                f"{type(self).__name__}: the model's head has {len(head.labels.names)} labels, but "
                f"num_labels is {self.config.num_labels}; leave it out, or set model.label_head = "
                "None for a new head"
            )
        self._check_directions(model)
        model.label_head = None
        super()._take_over(model)
        like = model.embedding.weight if head is None else head.linear.weight
        self.score = LabelHead(
            model.config.width, self.score.labels, device=like.device, dtype=like.dtype
        )
        if head is None:
            return
        weight: Tensor = head.linear.weight
        bias: Tensor = head.linear.bias
        if head.labels.task == "regression":
            units = torch.tensor(head.labels.deviations, dtype=torch.float64, device=like.device)
            means = torch.tensor(head.labels.means, dtype=torch.float64, device=like.device)
            weight, bias = units[:, None] * weight, units * bias + means
        self.score.linear.weight.copy_(weight)
        self.score.linear.bias.copy_(bias)

    @classmethod
    def from_language_model(cls: type[Self], model: LanguageModel, **others: Any) -> Self:
        """As `HyenaPreTrainedModel.from_language_model`; a head for labels that the model has
        becomes this one's.

        Raises: TypeError if it is no model; ValueError if that head says something of each token,
            or has another number of labels than is asked for; and as there.
        """
        check_model(f"{cls.__name__}.from_language_model", model, LanguageModel)
        if model.label_head is not None:
            labels = model.label_head.labels
            if labels.task == "token-classification":
                raise ValueError(
                    f"{cls.__name__}: the model has a head for a class of each token, for which "
                    "there is no class here; use it through hyena.predict"
                )
            regression = labels.task == "regression"
            said = {
                "id2label": dict(enumerate(labels.names)),
                "label2id": {name: i for i, name in enumerate(labels.names)},
                "problem_type": "regression" if regression else "single_label_classification",
                "pool": labels.pool,
                "begin": labels.begin,
            }
            others = {**said, **others}
        return super().from_language_model(model, **others)
