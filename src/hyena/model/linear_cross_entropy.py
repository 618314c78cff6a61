"""Cross entropy of a linear layer's outputs, without all of its logits at once.

Logits, their softmax and the gradient of both are as large as positions times vocabulary: at long
contexts far larger than the rest of a model. Here they are made for a slice of positions, used for
its losses and its share of the gradients, and overwritten by the next slice (as in Hsu et al. 2024,
Liger Kernel, arXiv:2410.10989, section 3.2).

Sizes: B batch, L length, N positions, D width, V vocabulary.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.ops.observed import observer

Reduction = Literal["mean", "none"]

LOGITS_BYTES = 1 << 25
"""Of the logits of a slice. Smaller ones read and write the weight and its gradient more often."""

# The softmax goes over a slice in parts that stay in the processor's caches. So does the sum of the
# weight's gradient where products are of 16 bits: in float32 that gained nothing.
_SOFTMAX_BYTES = 1 << 21
_SUMMED_ROWS = 4096


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    reduction: Reduction = "mean",
    slice_bytes: int = LOGITS_BYTES,
) -> Tensor:
    """``cross_entropy(linear(x, weight), targets)`` in nats, in float32 or wider.

    Up to ``slice_bytes`` of softmax that is what runs. Beyond, it is computed in slices,
    with the gradients of the mean in the same sweep; they have no gradients themselves. Per-sample
    gradients and other transforms of ``torch.func``, and single losses with a gradient, take all
    logits at once.

    Args:
        x: (B, L, D).
        weight: (V, D), dtype of x. Under autocast products are in its dtype.
        targets: (B, L) int64 in 0 … V−1, or −100 where there is none.
        reduction: "mean" over the targets that there are, nan if there is none; "none" for the loss
            of each, 0 where there is none.
        slice_bytes: most that the logits of a slice may take, if that is enough for one position.

    Returns: a scalar, or (B, L); float64 for float64, and float32 otherwise.
    """
    dtype = _dtype_of_products(weight)
    wide = torch.promote_types(dtype, torch.float32)
    rows = max(1, slice_bytes // (weight.shape[0] * dtype.itemsize))
    most = slice_bytes // (weight.shape[0] * wide.itemsize)
    who = observer((x, weight, targets))
    sliced = who in ("nobody", "autograd", "program") if reduction == "mean" else who == "nobody"
    sliced = sliced and not x.is_meta  # where targets have no values
    x, shape, targets = x.flatten(0, 1), targets.shape, targets.flatten()
    if not sliced or x.shape[0] <= max(1, most):
        loss = losses_of(F.linear(x, weight), targets, reduction)
        return loss if reduction == "mean" else loss.view(shape)
    if reduction == "none":
        return _sweep(x, weight, targets, rows, dtype, False, False)[0].view(shape)
    records = torch.is_grad_enabled()
    need = records and x.requires_grad, records and weight.requires_grad
    arguments = (x, weight, targets, rows, dtype, *need)
    total: Tensor = _op(*arguments)[0] if who == "program" else _Sum.apply(*arguments)
    count = (targets != IGNORE).sum()
    return (total / count.clamp(min=1)).masked_fill(count == 0, torch.nan)


def losses_of(logits: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
    """The cross entropy in nats, in float32 or wider, of all logits (…, V) at once.

    Args: targets (…) int64 and reduction as in `linear_cross_entropy`.
    """
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    each = logits.flatten(0, -2), targets.flatten()
    loss = F.cross_entropy(*each, ignore_index=IGNORE, reduction=reduction)
    return loss if reduction == "mean" else loss.view(targets.shape)


def _dtype_of_products(weight: Tensor) -> torch.dtype:
    """The weight's, or autocast's, which leaves float64 alone."""
    device = weight.device.type
    if device != "meta" and torch.is_autocast_enabled(device) and weight.dtype != torch.float64:
        return torch.get_autocast_dtype(device)
    return weight.dtype


def _sweep(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: int,
    dtype: torch.dtype,
    need_dx: bool,
    need_dweight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses (N,), and the gradients of their sum in x, and in weight in float32 or wider: a sum
    may be too large for float16, where the mean is not. Those that are not needed are empty."""
    wide = torch.promote_types(dtype, torch.float32)
    N, V = x.shape[0], weight.shape[0]
    losses = x.new_zeros(N, dtype=wide)
    dx = torch.zeros_like(x) if need_dx else x.new_empty(0)
    dweight = weight.new_zeros(weight.shape if need_dweight else 0, dtype=wide)
    with torch.autocast(x.device.type, enabled=False):
        narrow, most = weight.to(dtype), min(rows, N)
        few = max(1, min(most, _SOFTMAX_BYTES // (V * wide.itemsize)))
        logits, softmax = x.new_empty((most, V), dtype=dtype), x.new_empty((few, V), dtype=wide)
        for chosen in (targets != IGNORE).nonzero().squeeze(1).split(rows):
            u, target = x[chosen].to(dtype), targets[chosen].unsqueeze(1)
            z = torch.mm(u, narrow.t(), out=logits[: len(chosen)])
            for at, of, part in zip(*(y.split(few) for y in (chosen, target, z)), strict=True):
                log_p = torch.log_softmax(part, 1, dtype=wide, out=softmax[: len(at)])
                of_target = log_p.gather(1, of)
                losses[at] = -of_target.squeeze(1)
                if need_dx or need_dweight:
                    # The gradient of the logits: all probabilities, less 1 at the target.
                    log_p.exp_().scatter_(1, of, of_target.expm1())
                    part.copy_(log_p)
            if need_dx:
                dx[chosen] = (z @ narrow).to(x.dtype)
            if need_dweight and dtype == wide:
                dweight.addmm_(z.t(), u)
            elif need_dweight:
                blocks = dweight.split(_SUMMED_ROWS), z.split(_SUMMED_ROWS, 1)
                for total, some in zip(*blocks, strict=True):
                    total += some.t() @ u
    return losses, dx, dweight


class _Sum(torch.autograd.Function):
    """The sum of the losses, in eager code: a registered op would load the compiler."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        losses, dx, dweight = _sweep(*inputs)
        ctx.dtype = inputs[1].dtype
        ctx.save_for_backward(dx, dweight)
        return losses.sum()

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
        return _gradients(ctx, dy)


@torch.library.custom_op("hyena::linear_cross_entropy", mutates_args=())
def _op(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: int,
    dtype: torch.dtype,
    need_dx: bool,
    need_dweight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same sum as programs record it, with its gradients."""
    losses, dx, dweight = _sweep(x, weight, targets, rows, dtype, need_dx, need_dweight)
    return losses.sum(), dx, dweight


@_op.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    rows: int,
    dtype: torch.dtype,
    need_dx: bool,
    need_dweight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(dtype, torch.float32)
    dx = torch.empty_like(x) if need_dx else x.new_empty(0)
    dweight = weight.new_empty(weight.shape if need_dweight else 0, dtype=wide)
    return x.new_empty((), dtype=wide), dx, dweight


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, dx, dweight = output
    ctx.mark_non_differentiable(dx, dweight)
    ctx.set_materialize_grads(False)
    ctx.dtype = inputs[1].dtype
    ctx.save_for_backward(dx, dweight)


def _gradients(ctx: Any, dy: Tensor, *_: None) -> tuple[Any, ...]:
    if torch.is_grad_enabled():
        raise RuntimeError(
            "LanguageModel: the gradient of a loss of this many logits has no gradient itself; "
            "take torch.nn.functional.cross_entropy of the logits, model(input_ids)"
        )
    dx, dweight = ctx.saved_tensors
    need_dx, need_dweight = ctx.needs_input_grad[:2]
    # Not in place: a graph may be gone through twice. In dy's dtype: 1 / N has no place in 16 bits.
    return (
        (dx.to(dy.dtype) * dy).to(dx.dtype) if need_dx else None,
        (dweight * dy).to(ctx.dtype) if need_dweight else None,
        *(None,) * 5,
    )


_op.register_autograd(_gradients, setup_context=_keep)
