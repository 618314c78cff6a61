"""A Hyena operator behind the interface of timm's attention.

Sizes: B batch, L length, D width.
"""

from torch import Tensor, nn

from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.replacing.masks import padding_only, real_of, seen_by

_OP = "TimmAttentionAdapter"


class TimmAttentionAdapter(nn.Module):
    """Takes the place of the ``Attention`` of a Vision Transformer of timm; made by
    `hyena.replace_attention`. What a convolution cannot do is refused, never ignored.

    Args:
        mixer: of width D. Causal or bidirectional: that alone decides what a position sees.
        proj_drop: dropout of the output, that of the module replaced.
    """

    def __init__(self, mixer: HyenaOperator, proj_drop: nn.Module) -> None:
        super().__init__()
        self.mixer, self.proj_drop = mixer, proj_drop

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """The arguments of timm's ``Attention.forward``.

        Args:
            x: (B, L, D).
            attn_mask: hides padding at the ends of rows and, if the mixer is causal, may hide the
                future: (L, L), or (B, 1, L, L), of bool (True = look) or float (-inf, or
                the least number, = ignore).
            is_causal: with True the mixer must be causal.

        Returns: (B, L, D).
        Raises: ValueError on any other mask, and as `HyenaOperator.forward` does.
        """
        if is_causal and self.mixer.bidirectional and x.shape[1] > 1:
            raise ValueError(
                f"{_OP}: got is_causal=True, but this Hyena operator is bidirectional; replace the "
                "attention with replace_attention(…, causal=True)"
            )
        y: Tensor = self.proj_drop(self.mixer(x, mask=padding_only(self._real(attn_mask, x))))
        return y

    def _real(self, mask: Tensor | None, x: Tensor) -> Tensor | None:
        """(B, L), True at real tokens. Raises: as `forward`."""
        if mask is None:
            return None
        B, L = x.shape[:2]
        if mask.shape not in ((L, L), (1, 1, L, L), (B, 1, L, L)):
            raise ValueError(
                f"{_OP}: expected attn_mask {(L, L)} or {(B, 1, L, L)}, got {tuple(mask.shape)}"
            )
        seen = seen_by(_OP, "attn_mask", mask, true="look", finite=True).reshape(-1, L, L)
        real = real_of(seen, causal=False)
        if real is None and not self.mixer.bidirectional:
            real = real_of(seen, causal=True)
        if real is None:
            hides = "padding" if self.mixer.bidirectional else "padding, or padding and the future,"
            raise ValueError(
                f"{_OP}: the attn_mask is not one that Hyena can honour, which hides {hides} and "
                "nothing else; leave it out"
            )
        return real.expand(B, L)
