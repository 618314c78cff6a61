"""A long convolution's filter, with its skip, transformed once for inputs of one length."""

import torch
from torch import Tensor

from hyena.ops import fft
from hyena.ops._check import check_filter
from hyena.ops._filter import FilterSpectrum, crop, fold_skip
from hyena.ops._route import cannot_take
from hyena.ops.arguments import check_size, check_tensor
from hyena.ops.backend import Backend, kernel_for, resolve_backend
from hyena.ops.native import _call, library
from hyena.ops.observed import PLAIN, observer

__all__ = ["FilterSpectrum", "filter_spectrum"]


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
    if resolve_backend(backend) == "naive":
        raise ValueError(
            'filter_spectrum: backend="naive" sums over the taps of a filter and has no spectrum; '
            "pass the filter k to the convolution instead"
        )
    check_tensor("filter_spectrum", "k", k)
    check_tensor("filter_spectrum", "skip", skip, optional=True)
    check_filter("filter_spectrum", k, skip, causal)
    length = check_size("filter_spectrum", "length", length, 1)
    if torch.is_grad_enabled() and (k.requires_grad or (skip is not None and skip.requires_grad)):
        raise ValueError(
            f"filter_spectrum: {'k' if k.requires_grad else 'skip'} requires a gradient, which a "
            "spectrum does not have; call it under torch.no_grad(), or pass the filter itself to "
            "the convolution"
        )
    channels, lead = k.shape[0], 0 if causal else (k.shape[1] - 1) // 2
    k, lead = crop(k, lead, length)
    kernel, who = kernel_for(backend), observer((k, skip))
    fits = k.is_cpu and torch.float64 not in (k.dtype, None if skip is None else skip.dtype)
    if backend == "native" and who != "program" and (not fits or who == "transform"):
        raise cannot_take("filter_spectrum", (k, skip))
    if kernel is not None and fits and who in ("nobody", "ops") and type(k) in PLAIN:
        wide = None if skip is None else skip.to(torch.float32)
        values = _call.spectrum(k.to(torch.float32), wide, lead, length)
        n = _call.transform_size(length)
        return FilterSpectrum(values, channels, n, length, lead, causal, kernel.isa)
    if kernel is None and backend == "auto" and fits:
        library.warn_if_missing()
    k = fold_skip(k, skip, lead, torch.float32)
    n = fft.fft_length(length, k.shape[1], lead)
    dtype = torch.promote_types(k.dtype, torch.float32)
    return FilterSpectrum(fft.spectrum(k, n, lead, dtype), channels, n, length, lead, causal, "fft")


def spectrum_bytes(
    channels: int,
    length: int,
    *,
    causal: bool,
    dtype: torch.dtype,
    on_cpu: bool,
    backend: Backend = "auto",
) -> int:
    """Bytes of the spectrum of filters as long as their inputs, of L taps or 2L − 1 if not causal,
    in float32 or wider."""
    kernel = kernel_for(backend)
    if kernel is not None and on_cpu and dtype is not torch.float64:
        return 4 * kernel.spectrum_floats(channels, _call.transform_size(length))
    lead = 0 if causal else length - 1
    n = fft.fft_length(length, length + lead, lead)
    return channels * (n // 2 + 1) * dtype.to_complex().itemsize
