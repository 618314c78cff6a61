"""A Hyena operator behind the interface of self-attention in Hugging Face's transformers.

Sizes: B batch, L length, D width, T tokens so far, the last L of them these.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hyena.arguments import shown
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.replacing.cache_layer import HyenaCacheLayer, layer_of
from hyena.mixers.replacing.masks import holds, padding_only, real_of, seen_by

_OP = "TransformersAttentionAdapter"


class TransformersAttentionAdapter(nn.Module):
    """Takes the place of the self-attention of BERT, GPT-2 or ViT in transformers; made by
    `hyena.replace_attention`.

    It is called as the module replaced, so that the model around it notices nothing. What a
    convolution cannot do is refused, never ignored.

    Args:
        mixer: of width D. Causal or bidirectional: that alone decides what a position sees.
        causal: whether the model's own masks hide the future.
        layer_idx: which layer of a cache is this module's; None if the model has no caches.
        dropout: of the output, if the module replaced has one.
    """

    def __init__(
        self,
        mixer: HyenaOperator,
        *,
        causal: bool,
        layer_idx: int | None = None,
        dropout: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.mixer, self.dropout = mixer, dropout
        self.causal, self.layer_idx = causal, layer_idx

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        cache: Any = None,
        encoder_hidden_states: Tensor | None = None,
        past_key_values: Any = None,
        is_causal: bool | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        """What the models pass to their attention, of which other arguments have no meaning here.

        Args:
            hidden_states: (B, L, D).
            attention_mask: hides padding at the ends of rows and, in a causal model, the future:
                (B, 1, L, T) of bool (True = look) or float (the least number = ignore), as the
                models make it; or (B, T), other than 0 at real tokens.
            cache, past_key_values: a ``DynamicCache`` of transformers, by its new or its old name,
                of which the layer ``layer_idx`` is written to: it holds the operator's state.
            encoder_hidden_states: must be None.
            is_causal: must be what the model's masks are anyway, if it is given.

        Returns: the output, (B, L, D), and None for the weights.
        Raises: TypeError on a mask that is no tensor; ValueError on any other mask, on
            cross-attention, on ``output_attentions``, on rows of several sequences, on a cache of
            another kind or one that cannot go on, and as `HyenaOperator.forward` does.
        """
        if encoder_hidden_states is not None:
            raise ValueError(
                f"{_OP}: Hyena replaces self-attention only, but got encoder_hidden_states; leave "
                "this module out of replace_attention (names=)"
            )
        if others.get("output_attentions"):
            raise ValueError(
                f"{_OP}: Hyena has no attention weights to return; leave output_attentions out"
            )
        if is_causal not in (None, self.causal):
            raise ValueError(
                f"{_OP}: got is_causal={is_causal}, but what a position sees was said when the "
                "attention was replaced; leave is_causal out"
            )
        if others.get("cu_seq_lens_q") is not None:
            raise ValueError(
                f"{_OP}: got cu_seq_lens_q, which says that a row has several sequences; give each "
                "a row of its own, padded, with an attention_mask"
            )
        u, given = hidden_states, past_key_values if cache is None else cache
        if given is None:
            y = self.mixer(u, mask=self._real(attention_mask, u, 0))
        else:
            layer = layer_of(_OP, given, self.layer_idx)
            y = self._cached(u, self._real(attention_mask, u, layer.length), layer)
        return (y if self.dropout is None else self.dropout(y)), None

    def extra_repr(self) -> str:
        return f"causal={self.causal}, layer_idx={self.layer_idx}"

    def _cached(self, u: Tensor, real: Tensor | None, layer: HyenaCacheLayer) -> Tensor:
        """The output for the next tokens; the cache's layer goes on to behind them."""
        length, why = layer.length + u.shape[1], ""
        if layer.length:
            state = layer.going_on(_OP, u.shape[1], real)
            if u.shape[1] == 1:
                y, state = self.mixer.step(u[:, 0], state)
                y = y[:, None]
            else:
                y, state = self.mixer.prefill(u, state=state)
        elif why := _why_no_state(self.mixer, u, real):
            y, state = self.mixer(u, mask=real), None
        else:
            y, state = self.mixer.prefill(u, mask=real)
        layer.hold(state, length, real, why)
        return y

    def _real(self, mask: Tensor | None, u: Tensor, before: int) -> Tensor | None:
        """(B, T), True at real tokens; None if all are. Raises: as `forward`."""
        if mask is None:
            return None
        if not isinstance(mask, Tensor):
            raise TypeError(
                f"{_OP}: expected a tensor as attention_mask, got {shown(mask)}; load the model "
                'with attn_implementation="sdpa" or "eager"'
            )
        B, L = u.shape[:2]
        T = before + L
        if mask.shape == (B, T):
            return padding_only(mask != 0)
        if mask.shape not in ((1, 1, L, T), (B, 1, L, T)):
            raise ValueError(
                f"{_OP}: expected attention_mask {(B, 1, L, T)} or {(B, T)}, got "
                f"{tuple(mask.shape)}"
            )
        seen = seen_by(_OP, "attention_mask", mask[:, 0], true="look", finite=True)
        real = real_of(seen, causal=self.causal)
        if real is None:
            hides = "padding and the future" if self.causal else "padding"
            raise ValueError(
                f"{_OP}: the attention_mask is not one that Hyena can honour, which hides {hides} "
                "and nothing else here; give the model one of two dimensions, 1 at real tokens and "
                "0 at padding"
            )
        return padding_only(real.expand(B, T))


def _why_no_state(mixer: HyenaOperator, u: Tensor, real: Tensor | None) -> str:
    """Why no tokens can follow these, for an error of `HyenaCacheLayer.going_on`; empty if they
    can."""
    trained = u.requires_grad or any(p.requires_grad for p in mixer.parameters())
    if trained and torch.is_grad_enabled():
        return "were read with gradients, which a state has not; read them under torch.no_grad()"
    if real is not None and not holds(real[:, -1]):
        return "end in padding; pad rows on the left, and read all of it at once with what follows"
    return ""
