"""The whole operator's contenders: ours, the public code's, and the attention block.

Sizes: B batch, D width, L length.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial

import torch
from torch import Tensor, nn

from hyena.bench import reference
from hyena.bench.convolution.baselines import AttentionBlock, PublicOperator
from hyena.bench.convolution.contender import Contender, Outputs, at_rows, infer, made, train
from hyena.bench.reference import ATTENTION_TOLERANCE, BF16_TOLERANCE, OPERATOR_TOLERANCE, seeded
from hyena.mixers import HyenaOperator
from hyena.ops import Backend

_SHORT = "short_conv.weight"  # whose taps the two operators hold in opposite order


def operators(
    names: Sequence[str], *, batch: int, width: int, length: int, training: bool, bf16: bool
) -> dict[str, Contender]:
    """Contenders by name, on one u (B, L, D), all operators with the same weights.

    Not training, they are in evaluation mode without gradients. With ``bf16`` all run under
    bfloat16 autocast, and "block_bf16" with its weights and input in bfloat16 instead.
    Raises: ValueError on a name that is unknown, or a width without heads of 64.
    """
    generator = torch.Generator().manual_seed(0)
    u, dy = (torch.randn(batch, length, width, generator=generator) for _ in range(2))
    u.requires_grad_(training)
    dy = dy.bfloat16() if bf16 else dy  # like the outputs
    with seeded():
        operator = HyenaOperator(width, length)
        block = AttentionBlock(width)
    truth = _truth(operator, u, dy, training)
    tolerance = BF16_TOLERANCE if bf16 else OPERATOR_TOLERANCE

    def hyena(module: nn.Module, by_name: Mapping[str, Tensor], ours: bool) -> Contender:
        leaves = [u, *(by_name[name] for name in PublicOperator(operator).by_our_names())]
        call = partial(_call, module.train(training), leaves, training, bf16, dy)
        return Contender(call, partial(_errors, truth, ours), tolerance)

    def ours(backend: Backend = "auto") -> Contender:
        module = copy.deepcopy(operator)
        module.backend = backend
        return hyena(module, dict(module.named_parameters()), True)

    def public() -> Contender:
        module = PublicOperator(operator)
        return hyena(module, module.by_our_names(), False)

    known: dict[str, Callable[[], Contender]] = {
        "ours": ours,
        "ours_out": ours,
        "torch": lambda: ours("torch"),
        "public": public,
        "block": lambda: _attention(block, u, dy, training, False),
        "block_autocast": lambda: _attention(block, u, dy, training, True),
        "block_bf16": lambda: _attention(
            copy.deepcopy(block).bfloat16(),
            u.detach().bfloat16().requires_grad_(training),
            dy,
            training,
            False,
        ),
    }
    return made(known, names, "the operator")


def _call(
    module: nn.Module, leaves: Sequence[Tensor], training: bool, autocast: bool, dy: Tensor
) -> Outputs:
    """A module on leaves[0] as it is used: in evaluation without gradients, or trained."""

    def forward(u: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            y: Tensor = module(u)
        return y

    return train(forward, leaves[:1], leaves, dy) if training else infer(forward, leaves[:1])


def _truth(
    operator: HyenaOperator, u: Tensor, dy: Tensor, training: bool
) -> Callable[[], dict[str, Tensor]]:
    """The public operator in float64: y, and the gradients of u and of the parameters."""

    @cache
    def truth() -> dict[str, Tensor]:
        wide = PublicOperator(copy.deepcopy(operator).double())
        leaf = u.detach().double().requires_grad_(training)
        with torch.set_grad_enabled(training):
            y = wide(leaf)
        if not training:
            return {"y": y}
        leaves = {"u": leaf, **wide.by_our_names()}
        gradients = torch.autograd.grad(y, list(leaves.values()), dy.double())
        return {"y": y.detach(), **dict(zip(leaves, gradients, strict=True))}

    return truth


def _errors(truth: Callable[[], dict[str, Tensor]], ours: bool, got: Outputs) -> dict[str, float]:
    found = {}
    for (name, expected), x in zip(truth().items(), got, strict=True):
        if ours and name == _SHORT:
            x = x.flip(-1)
        found[name] = reference.relative_error(x.reshape(expected.shape), expected)
    return found


def _attention(
    block: AttentionBlock, u: Tensor, dy: Tensor, training: bool, autocast: bool
) -> Contender:
    def truth(rows: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        wide = copy.deepcopy(block).double()
        leaf = u.detach().double().requires_grad_(training)
        with torch.set_grad_enabled(training):
            y = reference.attention(*wide.heads(leaf), rows)
            y = wide.out_proj(y.transpose(1, 2).flatten(2))
        return y, {"u": leaf, **dict(wide.named_parameters())}

    leaves = [u, *block.parameters()]
    call = partial(_call, block.train(training), leaves, training, autocast)
    narrow = autocast or u.dtype == torch.bfloat16
    return at_rows(call, dy, 1, truth, BF16_TOLERANCE if narrow else ATTENTION_TOLERANCE)
