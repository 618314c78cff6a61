"""The classes of self-attention that Hyena can take the place of.

Those of other packages are known by their names, so that none of them is imported.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from hyena.mixers.attention import CausalSelfAttention
from hyena.mixers.hyena import HyenaOperator
from hyena.mixers.replacing.hugging_face import TransformersAttentionAdapter
from hyena.mixers.replacing.multihead import MultiheadAttentionAdapter
from hyena.mixers.replacing.timm import TimmAttentionAdapter


class Kind(NamedTuple):
    """A class of attention, and what has to be known of a module of it."""

    base: type[nn.Module] | str
    """The class, or its full name."""
    width: Callable[[Any], int]
    weight: Callable[[Any], Tensor]
    """A parameter where the others are, and of their dtype."""
    dropout: Callable[[Any], float]
    replacement: Callable[[Any, HyenaOperator], nn.Module]
    """The operator, called as the module is."""
    causal: Callable[[Any], bool] = lambda module: False
    """Whether a position sees only its past, whatever mask is passed."""
    crosses: Callable[[Any], bool] = lambda module: False
    """Whether the module is cross-attention, which is left alone."""
    reasons: Callable[[Any], Mapping[str, bool]] = lambda module: {}
    """Why Hyena cannot stand in for the module, and whether it is so."""
    methods: tuple[str, ...] = ("forward",)
    """What computes the output."""

    def base_of(self, module: nn.Module) -> type[nn.Module] | None:
        """The class itself, if the module is of it or of one derived from it."""
        for cls in type(module).__mro__:
            if self.base in (cls, f"{cls.__module__}.{cls.__qualname__}"):
                return cls
        return None


def _multihead_reasons(module: nn.MultiheadAttention) -> Mapping[str, bool]:
    return {
        f"kdim={module.kdim} or vdim={module.vdim} differs from embed_dim={module.embed_dim}": (
            not module._qkv_same_embed_dim
        ),
        "add_bias_kv=True": module.bias_k is not None or module.bias_v is not None,
        "add_zero_attn=True": module.add_zero_attn,
    }


def _other_width(width: int, out: int) -> Mapping[str, bool]:
    return {f"its output has {out} channels, its input {width}": out != width}


KINDS = (
    Kind(
        base=nn.MultiheadAttention,
        width=lambda module: module.embed_dim,
        weight=lambda module: module.out_proj.weight,
        dropout=lambda module: module.dropout,
        replacement=lambda module, mixer: MultiheadAttentionAdapter(
            mixer, module.num_heads, batch_first=module.batch_first
        ),
        reasons=_multihead_reasons,
    ),
    Kind(
        base=CausalSelfAttention,
        width=lambda module: module.width,
        weight=lambda module: module.out_proj.weight,
        dropout=lambda module: module.dropout,
        replacement=lambda module, mixer: mixer,
        causal=lambda module: True,
        methods=("forward", "_mix"),
    ),
    Kind(
        base="transformers.models.bert.modeling_bert.BertSelfAttention",
        width=lambda module: module.query.in_features,
        weight=lambda module: module.query.weight,
        dropout=lambda module: module.dropout.p,
        replacement=lambda module, mixer: TransformersAttentionAdapter(
            mixer, causal=module.is_causal, layer_idx=module.layer_idx
        ),
        causal=lambda module: module.is_causal,
        reasons=lambda module: _other_width(module.query.in_features, module.value.out_features),
    ),
    Kind(
        base="transformers.models.gpt2.modeling_gpt2.GPT2Attention",
        width=lambda module: module.embed_dim,
        weight=lambda module: module.c_proj.weight,
        dropout=lambda module: module.attn_dropout.p,
        replacement=lambda module, mixer: TransformersAttentionAdapter(
            mixer, causal=True, layer_idx=module.layer_idx, dropout=module.resid_dropout
        ),
        causal=lambda module: True,
        crosses=lambda module: module.is_cross_attention,
    ),
    Kind(
        base="transformers.models.vit.modeling_vit.ViTAttention",
        width=lambda module: module.o_proj.out_features,
        weight=lambda module: module.o_proj.weight,
        dropout=lambda module: module.attention_dropout,
        replacement=lambda module, mixer: TransformersAttentionAdapter(mixer, causal=False),
    ),
    Kind(
        base="timm.layers.attention.Attention",
        width=lambda module: module.qkv.in_features,
        weight=lambda module: module.proj.weight,
        dropout=lambda module: module.attn_drop.p,
        replacement=lambda module, mixer: TimmAttentionAdapter(mixer, module.proj_drop),
        reasons=lambda module: _other_width(module.qkv.in_features, module.proj.out_features),
    ),
)


def kind_of(module: nn.Module) -> Kind | None:
    """The kind of a module; None of one that is no attention."""
    return next((kind for kind in KINDS if kind.base_of(module) is not None), None)
