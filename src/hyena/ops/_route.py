"""Who computes a convolution: the one place where that is decided."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hyena.ops import _torch, naive
from hyena.ops._convolution import Convolution
from hyena.ops._filter import crop, fold_skip
from hyena.ops.backend import Backend, kernel_for
from hyena.ops.block_causal import by_halves
from hyena.ops.native import _call, _registered, library
from hyena.ops.native._abi import DTYPES, MOST_DIRECT_TAPS, MOST_SHORT_TAPS
from hyena.ops.observed import Observer, compiling, exporting, observer
from hyena.ops.segments import Segments


def run(op: str, c: Convolution, backend: Backend) -> Tensor:
    """y of a convolution whose arguments are checked.

    Raises: ValueError on what the backend that was asked for cannot take, or of a spectrum that is
        another's; RuntimeError if "native" is not built.
    """
    kernel = library.outcome.kernel if backend in ("auto", "native") else None
    if kernel is None:
        kernel = kernel_for(backend)  # which says why not, if that is an error
    if c.z.numel() == 0:
        return _torch.forward(c)
    if backend == "naive":
        return _definition(c)
    apart = c.taps is not None and c.filter is not None and c.taps.shape[1] > MOST_SHORT_TAPS
    if apart or c.block_causal:
        return _in_parts(op, c, backend)
    if c.filter is None and c.taps is not None and c.taps.shape[1] > MOST_DIRECT_TAPS:
        return _torch.forward(c)
    who = observer((c.z, c.filter, c.skip, c.taps, c.bias))
    fits = kernel is not None and c.z.is_cpu and c.z.dtype in DTYPES and who != "transform"
    if fits:
        for x in (c.filter, c.skip, c.taps, c.bias):
            if x is None or x.dtype is torch.float32 or (c.n and x is c.filter):
                continue
            if x.dtype is torch.float64:
                fits = False
            else:
                c = c.narrow()
                break
    if c.layout or (backend == "native" and not fits):
        fits = _must_fit(op, c, backend, who, fits)
    if fits and who == "nobody":
        return _call.forward(c)
    if fits and who == "autograd":
        return _registered.differentiable(c)
    if fits or (who == "program" and c.layout != "fft" and (backend == "auto" or c.segments)):
        # A program takes any documents, batch and length, where it holds the op, whatever is in it.
        return _registered.recorded(c, backend != "torch")
    if kernel is None and backend == "auto" and c.z.is_cpu and c.z.dtype != torch.float64:
        library.warn_if_missing()
    return _torch.forward(c)


def _definition(c: Convolution) -> Tensor:
    short = None if c.taps is None else (c.taps, c.bias)
    options: dict[str, Any] = {"causal": c.causal, "segments": c.segments}
    if c.filter is None:
        assert short is not None
        return naive.short_conv(c.z, *short, **options)
    if c.parts == 1:
        return naive.long_conv(c.z, c.filter, c.skip, **options)
    return naive.gated_conv(c.z, c.filter, c.skip, short=short, **options)


def _in_parts(op: str, c: Convolution, backend: Backend) -> Tensor:
    """The short convolution, the gates and the long convolution one after the other."""
    z = c.z
    if c.taps is not None:
        z = run(
            op,
            c._replace(parts=1, filter=None, n=0, skip=None, layout="", block_causal=False),
            backend,
        )
    if c.parts == 1:
        return _long(op, c._replace(z=z, taps=None, bias=None), backend)
    post, pre, value = z.chunk(3, dim=1)
    return post * _long(op, c._replace(z=pre * value, parts=1, taps=None, bias=None), backend)


def _long(op: str, c: Convolution, backend: Backend) -> Tensor:
    if not c.block_causal:
        return run(op, c, backend)
    assert c.filter is not None
    k = fold_skip(c.filter, c.skip, c.lead, c.z.dtype)
    if c.segments is not None:
        k, _ = crop(k, 0, max(c.segments.longest, 1))

    def short(u: Tensor, taps: Tensor, segments: Segments | None) -> Tensor:
        one = Convolution(u, 1, None, 0, None, taps, None, 0, 0, segments)
        return run(op, one, backend)

    def two_sided(u: Tensor, taps: Tensor) -> Tensor:
        lead = (taps.shape[1] - 1) // 2
        return run(op, Convolution(u, 1, taps, 0, None, None, None, lead, 0, causal=False), backend)

    return by_halves(c.z, k, c.segments, short=short, two_sided=two_sided)


def cannot_take(op: str, tensors: Sequence[Tensor | None]) -> ValueError:
    """The error for tensors that the kernel was asked to take."""
    given = [x for x in tensors if x is not None]
    dtypes = ", ".join(str(x.dtype) for x in given)
    return ValueError(
        f'{op}: backend="native" takes float32, bfloat16 or float16 on the CPU, outside torch.func '
        f"and forward mode, with filters that are not float64; got {dtypes} on {given[0].device}. "
        'Use backend="auto"'
    )


def _must_fit(op: str, c: Convolution, backend: Backend, who: Observer, fits: bool) -> bool:
    """Whether the kernel computes what no other backend, or none at all, could take its place in.

    Raises: ValueError if it is "native" and the kernel cannot take the tensors, and if a spectrum
        is of one transform and the backend or dtype of another.
    """
    if not c.layout:
        raise cannot_take(op, c.tensors)
    if c.layout == "fft" and backend != "native":
        return False
    if exporting() or (who == "program" and not compiling()):
        raise ValueError(
            f"{op}: a FilterSpectrum of the native kernel fits this processor alone, so a program "
            "that may run elsewhere cannot hold it; pass the filter k instead"
        )
    if c.layout == library.isa() and fits:
        return True
    made = "PyTorch's FFT" if c.layout == "fft" else f"the native kernel ({c.layout})"
    raise ValueError(
        f'{op}: the FilterSpectrum was made by {made}, but backend="{backend}" with {c.z.dtype} '
        f"cannot use it here (kernel: {library.isa()}); make it with the same backend, or pass the "
        "filter k"
    )
