"""Convolutions with sums of exponentials: filters of a few modes, in time that grows with L."""

from typing import Any

import torch
from torch import Tensor

from hyena.ops import _check, _modes, _route, naive
from hyena.ops._convolution import Convolution
from hyena.ops._filter import of_each_channel
from hyena.ops.backend import Backend, kernel_for
from hyena.ops.native import library
from hyena.ops.native import modal as native
from hyena.ops.native._abi import DTYPES, MOST_SHORT_TAPS
from hyena.ops.observed import observer

_TAKEN = (*DTYPES, torch.complex64)
_TAKEN_OF_DECAYS = (*_TAKEN, torch.float64, torch.complex128)


def modal_conv(
    u: Tensor,
    log_decay: Tensor,
    weight: Tensor,
    skip: Tensor | None = None,
    *,
    state: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    r"""Convolution of each channel with a sum of n exponentials, and the state it leaves: O(L·n).

    .. math:: h_{d,t} = \mathrm{Re} \sum_n \mathrm{weight}_{d,n}\,e^{t\,\mathrm{log\_decay}_{d,n}},
        \qquad y_{b,d,t} = \sum_{s=0}^{t} h_{d,s}\,u_{b,d,t-s} + \mathrm{skip}_d\,u_{b,d,t}

    As a recurrence, :math:`x_t = e^{\mathrm{log\_decay}} x_{t-1} + u_t` and
    :math:`y_t = \mathrm{Re} \sum_n \mathrm{weight}_n x_{t,n} + \mathrm{skip}\,u_t`: the state of a
    sequence's first part continues it in the second. Exactly causal among finite inputs. Gu et al.
    2022 (arXiv:2206.11893) has such filters with complex modes, Ku et al. 2025 (arXiv:2503.01868)
    with real ones. Definition: `hyena.ops.naive.modal_conv`.

    Args:
        u: input, (B, D, L), floating; any strides.
        log_decay: logarithms of the modes' decays, finite, (D, n), or (G, n) with G a divisor of D,
            each for D/G consecutive channels; floating for real modes, or complex. Powers are
            computed in float64, so that float64 here counts whatever the rest is: an angle that is
            rounded to float32 is off by a thousandth after 8,192 positions.
        weight: weights of the modes, of the same shape and kind.
        skip: weight of the direct path, (D,); None means zero.
        state: x before the first position, (B, D, n), real or complex as the modes are; None means
            zeros.
        backend: as in `hyena.ops.long_conv`.

    Returns: y (B, D, L), dtype and device of ``u``, and x after the last position (B, D, n), in
        float32, or as wide as ``u``, ``weight`` or ``state``. Differentiable, twice and under
        torch.func.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch;
        RuntimeError if "native" is not built.
    """
    c = _check.modes("modal_conv", u, log_decay, weight, skip, state, backend=backend)
    if backend == "naive":
        return naive.modal_conv(u, log_decay, weight, skip, state=state)
    return _run("modal_conv", c, log_decay, weight, state, backend)


def gated_modal_conv(
    z: Tensor,
    log_decay: Tensor,
    weight: Tensor,
    skip: Tensor | None = None,
    *,
    short: tuple[Tensor, Tensor | None] | None = None,
    state: Tensor | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    r"""`hyena.ops.gated_conv` with `modal_conv` in place of the long convolution.

    .. math:: y = a \cdot \mathrm{modal\_conv}(b \cdot v)

    Args:
        z: inputs, (B, 3·D, L): the gate a after the convolution, b before it, the value v.
        log_decay, weight, skip, state: as in `modal_conv`.
        short: the short convolution of z, (taps (3·D, J), bias (3·D,) or None), causal; None means
            none.
        backend: as in `hyena.ops.long_conv`.

    Returns and raises: as `modal_conv`. Definition: `hyena.ops.naive.gated_modal_conv`.
    """
    modes = log_decay, weight, skip
    c = _check.modes("gated_modal_conv", z, *modes, state, parts=3, short=short, backend=backend)
    if backend == "naive":
        return naive.gated_modal_conv(z, *modes, short=short, state=state)
    return _run("gated_modal_conv", c, log_decay, weight, state, backend)


def _run(
    op: str,
    c: Convolution,
    log_decay: Tensor,
    weight: Tensor,
    state: Tensor | None,
    backend: Backend,
) -> tuple[Tensor, Tensor]:
    """Of arguments that are checked. Raises: ValueError on what "native" cannot take."""
    kernel = kernel_for(backend)
    if c.taps is not None and c.taps.shape[1] > MOST_SHORT_TAPS:
        z = _route.run(op, c._replace(parts=1, skip=None), backend)
        c = c._replace(z=z, taps=None, bias=None)
    D = c.z.shape[1] // c.parts
    log_decay, weight = of_each_channel(log_decay, D), of_each_channel(weight, D)
    beside = (weight, c.skip, state, c.taps, c.bias)
    every = (c.z, log_decay, *beside)
    who = observer(every)
    fits = kernel is not None and c.z.is_cpu and c.z.dtype in DTYPES and who != "transform"
    fits = fits and log_decay.dtype in _TAKEN_OF_DECAYS
    fits = fits and all(x is None or x.dtype in _TAKEN for x in beside)
    if backend == "native" and not fits:
        raise _route.cannot_take(op, every)
    if fits and c.z.numel() and who in ("nobody", "autograd"):
        given: Any = [None if x is None else _widened(x) for x in (weight, state)]
        compute = native.differentiable if who == "autograd" else native.forward
        return compute(c.narrow(), log_decay, *given)
    if kernel is None and backend == "auto" and c.z.is_cpu and c.z.dtype != torch.float64:
        library.warn_if_missing()
    return _modes.forward(c, log_decay, weight, state)


def _widened(x: Tensor) -> Tensor:
    return x if x.is_complex() else x.to(torch.float32)
