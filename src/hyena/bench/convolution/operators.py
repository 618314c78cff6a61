"""The whole operator's contenders: ours, the public code's, and the attention block.

Sizes: B batch, D width, L length.
"""

import copy
from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

from hyena.bench import reference
from hyena.bench.convolution.baselines import AttentionBlock, PublicOperator
from hyena.bench.convolution.contender import (
    Contender,
    Makers,
    Outputs,
    at_rows,
    in_float64,
    outputs,
)
from hyena.bench.reference import ATTENTION_TOLERANCE, BF16_TOLERANCE, OPERATOR_TOLERANCE, seeded
from hyena.mixers import HyenaOperator
from hyena.ops import Backend

_SHORT = "short_conv.weight"  # whose taps the two operators hold in opposite order


def operators(
    *, batch: int, width: int, length: int, training: bool, bf16: bool, device: str = "cpu"
) -> Makers:
    """Contenders on one u (B, L, D), all operators with the same weights.

    Not training, they are in evaluation mode without gradients. With ``bf16`` all run under
    bfloat16 autocast, and "block_bf16" with its weights and input in bfloat16 instead. The truth is
    computed on the CPU, whatever the device.
    Raises: ValueError on a width without heads of 64.
    """
    randn = partial(torch.randn, generator=torch.Generator(device).manual_seed(0), device=device)
    u, drawn = (randn(batch, length, width) for _ in range(2))
    u.requires_grad_(training)
    dy = (drawn.bfloat16() if bf16 else drawn) if training else None  # like the outputs
    with seeded():
        operator = HyenaOperator(width, length)
        block = AttentionBlock(width)
    tolerance = BF16_TOLERANCE if bf16 else OPERATOR_TOLERANCE

    @cache
    def truth() -> dict[str, Tensor]:
        """Of the public operator."""
        wide = PublicOperator(copy.deepcopy(operator).double())
        leaf = u.detach().cpu().double().requires_grad_(training)
        its = None if dy is None else dy.cpu()
        return in_float64(wide, [leaf], {"u": leaf, **wide.by_our_names()}, its)

    def as_public(got: Outputs) -> Outputs:
        return [
            (x.flip(-1) if name == _SHORT else x).reshape(right.shape)
            for (name, right), x in zip(truth().items(), got, strict=True)
        ]

    def ours(backend: Backend = "auto") -> Contender:
        module = copy.deepcopy(operator).to(device).train(training)
        module.backend = backend
        by_name = dict(module.named_parameters())
        leaves = [u, *(by_name[name] for name in PublicOperator(operator).by_our_names())]
        return Contender(partial(_call, module, leaves, bf16, dy), truth, tolerance, as_public)

    def public() -> Contender:
        module = PublicOperator(operator).to(device).train(training)
        leaves = [u, *module.by_our_names().values()]
        return Contender(partial(_call, module, leaves, bf16, dy), truth, tolerance)

    def narrow() -> Contender:
        its = copy.deepcopy(block).bfloat16()
        return _attention(its, u.detach().bfloat16().requires_grad_(training), dy, False)

    return {
        "ours": ours,
        "ours_out": ours,
        "torch": lambda: ours("torch"),
        "public": public,
        "block": lambda: _attention(block, u, dy, False),
        "block_autocast": lambda: _attention(block, u, dy, True),
        "block_bf16": narrow,
    }


def _call(
    module: nn.Module, leaves: Sequence[Tensor], autocast: bool, dy: Tensor | None
) -> Outputs:
    """A module on leaves[0] as it is used: in evaluation without gradients, or trained."""

    def forward(u: Tensor) -> Tensor:
        with torch.autocast(u.device.type, dtype=torch.bfloat16, enabled=autocast):
            y: Tensor = module(u)
        return y

    return outputs(forward, leaves[:1], leaves, dy)


def _attention(block: AttentionBlock, u: Tensor, dy: Tensor | None, autocast: bool) -> Contender:
    def truth(rows: Tensor, dy: Tensor | None) -> dict[str, Tensor]:
        wide = copy.deepcopy(block).double()
        leaf = u.detach().cpu().double().requires_grad_(dy is not None)

        def forward(u: Tensor) -> Tensor:
            y = reference.attention(*wide.heads(u), rows).transpose(1, 2).flatten(2)
            return nn.functional.linear(y, wide.out_proj.weight, wide.out_proj.bias)

        return in_float64(forward, [leaf], {"u": leaf, **dict(wide.named_parameters())}, dy)

    placed = copy.deepcopy(block).to(u.device).train(dy is not None)
    call = partial(_call, placed, [u, *placed.parameters()], autocast)
    narrow = autocast or u.dtype == torch.bfloat16
    tolerance = BF16_TOLERANCE if narrow else ATTENTION_TOLERANCE
    return at_rows(call, u.shape[1], 1, dy, truth, tolerance)
