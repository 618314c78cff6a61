"""A Hyena operator behind the interface of ``torch.nn.MultiheadAttention``.

Sizes: B batch, L length, D width, H heads.
"""

import torch
from torch import Tensor, nn

from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.replacing.masks import holds, seen_by

_OP = "MultiheadAttentionAdapter"


class MultiheadAttentionAdapter(nn.Module):
    """Takes the place of a self-attending ``torch.nn.MultiheadAttention``; made by
    `hyena.replace_attention`.

    The calls and the attributes are those of the module replaced, so that a
    ``torch.nn.TransformerEncoderLayer`` around it notices nothing. What a convolution cannot do is
    refused, never ignored.

    Args:
        mixer: of width D. Causal or bidirectional: that alone decides what a position sees.
        num_heads: H of the module replaced. Hyena has no heads: H is only what the leading
            dimension of a three-dimensional ``attn_mask`` is made of.
        batch_first: batched inputs are (B, L, D), otherwise (L, B, D).
    """

    # TransformerEncoderLayer takes its fused kernel, which reads the weights and calls no forward,
    # unless one of these two says that there is no stacked q, k, v projection with a bias.
    in_proj_bias = None
    _qkv_same_embed_dim = False

    def __init__(self, mixer: HyenaOperator, num_heads: int, *, batch_first: bool) -> None:
        super().__init__()
        self.mixer = mixer
        self.embed_dim, self.num_heads, self.batch_first = mixer.width, num_heads, batch_first

    @property
    def in_proj_weight(self) -> Tensor:
        """The mixer's: whether it needs a gradient is asked by ``TransformerEncoder``."""
        return self.mixer.in_proj.weight

    @property
    def out_proj(self) -> nn.Linear:
        """The mixer's."""
        return self.mixer.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """The arguments of ``torch.nn.MultiheadAttention.forward``.

        Args:
            query: (B, L, D), or (L, B, D) without ``batch_first``, or (L, D) unbatched.
            key, value: the query again: the same tensor, or the same view of the same memory.
            key_padding_mask: (B, L), or (L) unbatched; bool with True, or float with -inf, where
                there is padding, at the ends of a row. Outputs at real tokens are then those of
                the unpadded rows; outputs at padding mean nothing.
            need_weights: must be False; the default is that of the module replaced.
            attn_mask: (L, L), (B·H, L, L), or (H, L, L) unbatched; bool or float. It must say
                exactly what the mixer does: the causal mask, or nothing masked if bidirectional.
                A causal mixer needs none, and is faster without: the values of masks are read to
                check them, a wait on an accelerator and a graph break under ``torch.compile``.
            average_attn_weights: of no effect, since there are no weights.
            is_causal: with True the mixer must be causal. ``attn_mask`` is checked all the same.

        Returns: the output, of the query's shape, and None for the weights.
        Raises: ValueError on cross-attention, on ``need_weights``, on any other mask, on nested
            tensors, and as `HyenaOperator.forward` does.
        """
        if query.is_nested:
            raise ValueError(
                f"{_OP}: got a nested tensor; pass a padded tensor with its "
                "padding mask, and call replace_attention on the whole TransformerEncoder, so that "
                "it stops making nested tensors of them"
            )
        if not (_is_same(key, query) and _is_same(value, query)):
            raise ValueError(
                f"{_OP}: Hyena replaces self-attention only, but key or value "
                "is not query; pass the same tensor three times, or leave this module out of "
                "replace_attention (names=)"
            )
        if need_weights:
            raise ValueError(
                f"{_OP}: Hyena has no attention weights to return; call with "
                "need_weights=False (the default of torch.nn.MultiheadAttention is True)"
            )
        if query.dim() not in (2, 3):
            raise ValueError(
                f"{_OP}: expected a query of two (unbatched) or three "
                f"dimensions, got {tuple(query.shape)}"
            )
        batched = query.dim() == 3
        swapped = batched and not self.batch_first
        u = query.transpose(0, 1) if swapped else query if batched else query[None]  # (B, L, D)
        self._check_causality(attn_mask, is_causal, u.shape[0], u.shape[1])
        y = self.mixer(u, mask=_real(key_padding_mask, u, batched))
        return (y.transpose(0, 1) if swapped else y if batched else y[0]), None

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, batch_first={self.batch_first}"

    def _check_causality(
        self, attn_mask: Tensor | None, is_causal: bool, batch: int, length: int
    ) -> None:
        """Raises ValueError unless the mask and the hint say what the mixer does."""
        bidirectional = self.mixer.bidirectional
        if is_causal and bidirectional and length > 1:  # of one position both are the same
            raise ValueError(_ADVICE.format("is_causal=True"))
        if attn_mask is None:
            return
        stacked = (batch * self.num_heads, length, length)
        if attn_mask.shape not in (stacked[1:], stacked):
            raise ValueError(
                f"{_OP}: expected attn_mask {stacked[1:]} or {stacked}, got "
                f"{tuple(attn_mask.shape)}"
            )
        seen = seen_by(_OP, "attn_mask", attn_mask, true="ignore")
        everything = torch.ones(length, length, dtype=torch.bool, device=seen.device)
        if holds(seen == (everything if bidirectional else everything.tril())):
            return
        if bidirectional and holds(seen == everything.tril()):
            raise ValueError(_ADVICE.format("a causal attn_mask"))
        raise ValueError(
            f"{_OP}: the attn_mask is not one that Hyena can honour, which is "
            f"{'a mask of nothing' if bidirectional else 'the causal mask'} here; leave it out, "
            "and pass padding as key_padding_mask (src_key_padding_mask)"
        )


_ADVICE = (
    _OP + ": got {}, but this Hyena operator is bidirectional; replace the "
    "attention with replace_attention(…, causal=True)"
)


def _is_same(x: Tensor, query: Tensor) -> bool:
    """Whether x is the query: the same object, or another view of the same memory, which is what
    hooks and ``attention(x.transpose(0, 1), x.transpose(0, 1), …)`` pass."""
    if x is query:
        return True
    if x.is_nested or (x.dtype, x.device) != (query.dtype, query.device) or x.is_meta:
        return False
    return x.is_set_to(query)


def _real(key_padding_mask: Tensor | None, u: Tensor, batched: bool) -> Tensor | None:
    """(B, L) bool, True at real tokens, of a padding mask in the terms of PyTorch."""
    if key_padding_mask is None:
        return None
    expected = u.shape[:2] if batched else u.shape[1:2]
    if key_padding_mask.shape != expected:
        raise ValueError(
            f"{_OP}: expected key_padding_mask {tuple(expected)}, got "
            f"{tuple(key_padding_mask.shape)}"
        )
    real = seen_by(_OP, "key_padding_mask", key_padding_mask, true="ignore")
    return real if batched else real[None]
