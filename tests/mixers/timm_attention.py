"""A stand-in for timm's attention, which needs torchvision: its names, arguments and results."""

from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """``timm.layers.attention.Attention`` of timm 1.0.31 as far as `replace_attention` goes."""

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        dim_out: int | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim if dim_out is None else dim_out)
        self.proj_drop = nn.Dropout(proj_drop)

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, is_causal=is_causal)
        return self.proj_drop(self.proj(y.transpose(1, 2).flatten(2)))


Attention.__module__ = "timm.layers.attention"


class Block(nn.Module):
    """A block of timm's Vision Transformer, without its MLP."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads=2)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        return x + self.attn(self.norm1(x), attn_mask=attn_mask)


def vision_transformer(dim: int, blocks: int = 2) -> nn.Module:
    """Blocks as in timm's, under the names that they have there."""
    model = nn.Module()
    model.blocks = nn.Sequential(*(Block(dim) for _ in range(blocks)))
    model.forward = lambda x: model.blocks(x)  # type: ignore[method-assign]
    return model
