"""Models of transformers with random weights, small, and their attention replaced by Hyena."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertLMHeadModel,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    ViTConfig,
    ViTForImageClassification,
)

from hyena.mixers.replacing.replace import replace_attention

WIDTH, HEADS, LAYERS, VOCAB, LENGTH = 8, 2, 2, 17, 24
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
TOLERANCE = {"rtol": 1e-9, "atol": 1e-9}


def bert(attn: str = "sdpa", **options: Any) -> BertModel:
    return BertModel(_bert_config(attn, **options)).double().eval()


def bert_decoder(**options: Any) -> BertLMHeadModel:
    config = _bert_config("sdpa", is_decoder=True, **options)
    return BertLMHeadModel(config).double().eval()


def _bert_config(attn: str, **options: Any) -> BertConfig:
    more = {"vocab_size": VOCAB, "intermediate_size": 16, "max_position_embeddings": LENGTH}
    config = BertConfig(**SIZES, **more, pad_token_id=0, **options)
    config._attn_implementation = attn
    return config


def gpt2(attn: str = "sdpa", **options: Any) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=VOCAB,
        n_positions=2 * LENGTH,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
        **options,
    )
    config._attn_implementation = attn
    return GPT2LMHeadModel(config).double().eval()


def vit() -> ViTForImageClassification:
    config = ViTConfig(
        **SIZES, intermediate_size=16, image_size=8, patch_size=2, num_channels=1, num_labels=3
    )
    return ViTForImageClassification(config).double().eval()


def with_hyena(model: nn.Module, causal: bool, **options: Any) -> Any:
    replace_attention(model, LENGTH, causal=causal, **options)
    return model.eval()


def tokens(batch: int = 3, length: int = 12) -> Tensor:
    """(B, L), none of them padding."""
    return torch.randint(1, VOCAB, (batch, length))


def mask_of(lengths: list[int], length: int, side: str) -> Tensor:
    """(B, L) int64, in the terms of transformers: 1 at real tokens."""
    n = torch.arange(length)
    rows = [n < k if side == "right" else n >= length - k for k in lengths]
    return torch.stack(rows).long()
