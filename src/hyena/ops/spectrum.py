"""A long convolution's filter: cropped to the sequence, with its skip, and transformed once."""

from typing import NamedTuple

import torch
from torch import Tensor

from hyena.ops import fft
from hyena.ops._check import check_filter
from hyena.ops._taps import crop, fold_skip, lead_of, narrow
from hyena.ops.arguments import check_tensor
from hyena.ops.backend import Backend, resolve_backend, takes_native
from hyena.ops.native import _call, library


class FilterSpectrum(NamedTuple):
    """A filter transformed once for inputs of one length; made by `filter_spectrum`."""

    values: Tensor  # (D, n/2 + 1) complex, or in the order of the kernel's transform
    channels: int  # D
    n: int  # size of the transform
    length: int  # L it was made for
    lead: int  # taps of negative lag
    causal: bool
    layout: str  # "fft" for PyTorch's rfft, else the build of the kernel


def filter_spectrum(
    k: Tensor,
    length: int,
    skip: Tensor | None = None,
    *,
    causal: bool = True,
    backend: Backend = "auto",
) -> FilterSpectrum:
    """The filter's transform, for use in place of ``k`` and ``skip`` at inputs of one length.

    It has no gradient in them: where one may be asked for, pass the filter itself.

    Args: k (D, K) floating; length L ≥ 1; skip (D,) or None; causal and backend as in `long_conv`.
    Returns: a `FilterSpectrum` of D · (n/2 + 1) complex numbers, n ≥ L + min(K, L) − 1; or of D · n
        for the native kernel, n ≥ L, which only the native kernel can read.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch, if
        gradients are on and k or skip requires one, and for the definition, which has no spectrum;
        RuntimeError if "native" is not built.
    """
    chosen = resolve_backend(backend)
    if chosen == "naive":
        raise ValueError(
            'filter_spectrum: backend="naive" sums over the taps of a filter and has no spectrum; '
            "pass the filter k to the convolution instead"
        )
    check_tensor("filter_spectrum", "k", k)
    check_tensor("filter_spectrum", "skip", skip, optional=True)
    if k.dim() != 2 or length < 1:
        raise ValueError(
            f"filter_spectrum: expected k (D, K) and length ≥ 1, got {tuple(k.shape)} and {length}"
        )
    check_filter("filter_spectrum", k, skip, "skip", causal)
    if torch.is_grad_enabled() and (k.requires_grad or (skip is not None and skip.requires_grad)):
        raise ValueError(
            f"filter_spectrum: {'k' if k.requires_grad else 'skip'} requires a gradient, which a "
            "spectrum does not have; call it under torch.no_grad(), or pass the filter itself to "
            "the convolution"
        )
    k = crop(k, length, causal)
    lead, channels = lead_of(k, causal), k.shape[0]
    recorded = torch.compiler.is_compiling() or torch._C._is_tracing()
    if not recorded and takes_native("filter_spectrum", chosen, k, skip):
        values = _call.spectrum(narrow(k), narrow(skip), lead, length)
        n = _call.transform_size(length)
        return FilterSpectrum(values, channels, n, length, lead, causal, library.isa())
    k = fold_skip(k, skip, causal)
    n = fft.fft_length(length, k.shape[1], lead)
    dtype = torch.promote_types(k.dtype, torch.float32)
    return FilterSpectrum(fft.spectrum(k, n, lead, dtype), channels, n, length, lead, causal, "fft")


def takes_native_spectrum(op: str, k: FilterSpectrum, backend: Backend, u: Tensor) -> bool:
    """Whether the native kernel is to multiply with this spectrum; ``backend`` is resolved.

    Raises: ValueError if the spectrum is of one transform and the backend or dtype of another.
    """
    if k.layout == "fft" and backend != "native":
        return False
    compiling = torch.compiler.is_compiling()
    if torch.compiler.is_exporting() or (not compiling and torch._C._is_tracing()):
        raise ValueError(
            f"{op}: a FilterSpectrum of the native kernel fits this processor alone, so a program "
            "that may run elsewhere cannot hold it; pass the filter k instead"
        )
    made = "PyTorch's FFT" if k.layout == "fft" else f"the native kernel ({k.layout})"
    if k.layout == library.isa() and takes_native(op, backend, u):
        return True
    raise ValueError(
        f'{op}: the FilterSpectrum was made by {made}, but backend="{backend}" with {u.dtype} '
        f"cannot use it here (kernel: {library.isa()}); make it with the same backend, or pass the "
        "filter k"
    )
