"""The convolutions with sums of exponentials, by the kernel.

Sizes: B batch, D channels, L length, n modes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.ops import _check, _modes
from hyena.ops._convolution import Convolution
from hyena.ops.native import library
from hyena.ops.native._abi import (
    DTYPES,
    MOST_SHORT_TAPS,
    Conv,
    Gradients,
    Modes,
    ModesGradients,
)
from hyena.ops.native._call import describe, in_order, no_memory
from hyena.ops.observed import observer, own_of


def forward(
    c: Convolution, log_decay: Tensor, weight: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """y (B, D, L) and the state after (B, D, n), of z in a dtype that the kernel knows, log_decay
    in any, and of the others in float32 or complex64."""
    B, channels, L = c.z.shape
    D = channels // c.parts
    y = c.z.new_empty((B, D, L))
    after = torch.empty(B, D, weight.shape[1], dtype=weight.dtype, device="cpu")
    conv, modes, _keep = _describe(c, y, log_decay, weight, state)
    modes.state_after = after.data_ptr()
    if library.loaded().modal(conv, modes):
        raise no_memory()
    return y, after


def backward(
    dy: Tensor,
    c: Convolution,
    log_decay: Tensor,
    weight: Tensor,
    state: Tensor | None,
    need: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of sum(dy · y) in z, log_decay, weight, skip, state, taps and bias; None where not
    needed."""
    if dy.is_neg() or (dy.stride(2) != 1 and dy.shape[2] != 1):
        dy = in_order(dy)
    conv, modes, _keep = _describe(c, dy, log_decay, weight, state)
    tensors = (c.z, _precise(log_decay), weight, c.skip, state, c.taps, c.bias)
    found = [
        torch.empty(x.shape, dtype=x.dtype, device="cpu") if needed and x is not None else None
        for x, needed in zip(tensors, need, strict=True)
    ]
    dz, *of_modes, dskip, dstate, dtaps, dbias = (
        None if x is None else x.data_ptr() for x in found
    )
    _, channels, L = c.z.shape
    gradients = Gradients(dz, channels * L, L, None, dskip, dtaps, dbias)
    if library.loaded().modal_backward(conv, gradients, modes, ModesGradients(*of_modes, dstate)):
        raise no_memory()
    if found[1] is not None:
        found[1] = found[1].to(log_decay.dtype)
    return tuple(found)


def takes(z: Tensor, short: tuple[Tensor, Tensor], log_decay: Tensor, *beside: Tensor) -> bool:
    """Whether the kernel takes gradients of an operator of these, weights and skip ``beside``, and
    nobody looks on."""
    fits = z.is_cpu and z.dtype in DTYPES and short[0].shape[1] <= MOST_SHORT_TAPS
    if library.outcome.kernel is None or not fits:
        return False
    narrow = all(x.dtype.to_real() != torch.float64 for x in (*short, *beside))
    return narrow and observer((z, *short, log_decay, *beside)) == "nobody"


def gradients(
    dy: Tensor,
    z: Tensor,
    short: tuple[Tensor, Tensor],
    log_decay: Tensor,
    weight: Tensor,
    skip: Tensor,
) -> tuple[Tensor, list[Tensor | None]]:
    """Of sum(dy · y), where y (B, D, L) is what an operator with one long convolution, by modes,
    makes of z (B, 3·D, L), bias included, of what the kernel `takes`, without y itself.

    Returns: that of z, and those of log_decay, weight, skip, and taps and bias of the short
        convolution, None of what needs no gradient.
    """
    c = _check.modes("HyenaOperator", z, log_decay, weight, skip, None, parts=3, short=short)
    needed = [x.requires_grad for x in (log_decay, weight, skip)]
    needed = [True, *needed, False, *(x.requires_grad for x in short)]
    dz, *of_modes, _, dtaps, dbias = backward(dy, c.narrow(), log_decay, weight, None, needed)
    assert dz is not None
    return dz, [*of_modes, dtaps, dbias]


def differentiable(
    c: Convolution, log_decay: Tensor, weight: Tensor, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`forward`, recorded by autograd."""
    tensors = c.z, log_decay, weight, c.skip, state, c.taps, c.bias
    made: tuple[Tensor, Tensor] = _Modal.apply(*tensors, c.parts, c.short_lead)
    return made


class _Modal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, ctx.parts, ctx.short_lead = inputs
        ctx.save_for_backward(*tensors)
        ctx.set_materialize_grads(False)
        return forward(*_arguments(tensors, ctx.parts, ctx.short_lead))

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dstate: Tensor | None) -> tuple[Any, ...]:
        tensors, need = ctx.saved_tensors, ctx.needs_input_grad[:-2]
        rest = ctx.parts, ctx.short_lead
        plain = observer((dy, *tensors)) in ("nobody", "autograd")
        if dy is None or dstate is not None or torch.is_grad_enabled() or not plain:
            found = _through_torch((dy, dstate), tensors, rest, need)
        else:
            found = backward(dy, *_arguments(tensors, *rest), need)
        return *found, None, None


def _arguments(
    tensors: Sequence[Tensor | None], parts: int, short_lead: int
) -> tuple[Convolution, Tensor, Tensor, Tensor | None]:
    """Those of `forward`."""
    z, log_decay, weight, skip, state, taps, bias = tensors
    assert z is not None
    assert log_decay is not None
    assert weight is not None
    c = Convolution(z, parts, None, 0, skip, taps, bias, 0, short_lead)
    return c, log_decay, weight, state


def _through_torch(
    gradients: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    rest: tuple[int, int],
    need: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients that have gradients, and those of the state after, by PyTorch's own ops."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        tensors = own_of(tensors)
        outputs = _modes.forward(*_arguments(tensors, *rest))
    given = zip(outputs, gradients, strict=True)
    # The state after does not depend on the weights, skip and gate after.
    pairs = [(x, dx) for x, dx in given if dx is not None and x.requires_grad]
    chosen = [x for x, needed in zip(tensors, need, strict=True) if x is not None and needed]
    if not pairs:
        return (None,) * len(tensors)
    found = iter(
        torch.autograd.grad(
            [x for x, _ in pairs],
            chosen,
            [dx for _, dx in pairs],
            create_graph=again,
            allow_unused=True,
        )
    )
    return tuple(
        next(found) if x is not None and needed else None
        for x, needed in zip(tensors, need, strict=True)
    )


def _describe(
    c: Convolution, y: Tensor, log_decay: Tensor, weight: Tensor, state: Tensor | None
) -> tuple[Conv, Modes, Any]:
    """The structs, but for the state after, and what their pointers need kept alive."""
    conv, calls, keep = describe(c, y, library.loaded().isa)
    ((_, conv.rows, conv.row),) = calls
    given = _precise(log_decay), weight, state
    numbers = [None if x is None else _numbers(x) for x in given]
    modes = Modes(
        *(log_decay.shape[1], 2 if log_decay.is_complex() else 1),
        *(None if x is None else x.data_ptr() for x in numbers),
    )
    return conv, modes, (keep, numbers)


def _precise(log_decay: Tensor) -> Tensor:
    """As the kernel takes it."""
    return log_decay.to(torch.complex128 if log_decay.is_complex() else torch.float64)


def _numbers(x: Tensor) -> Tensor:
    """Contiguous, its memory as its values say; of complex numbers their parts."""
    return in_order(torch.view_as_real(x.resolve_conj()) if x.is_complex() else x)
