"""The long convolution through PyTorch's FFT, on any device.

The transforms run on a few channels at a time so that a chunk's spectra stay in cache, in float32
or wider whatever the input's dtype. Nothing but inputs is kept for the backward pass.

The convolution is bilinear, y = conv(u, k), so two autograd functions are closed under
differentiation: conv itself and the pair of its adjoints (du, dk) = adjoint(dy, u, k). There is no
forward-mode rule: torch.compile refuses functions that have one, and compiling matters more. There
PyTorch differentiates the ops of conv itself.
"""

from typing import Any

import torch
from torch import Tensor

from hyena.ops._vmap import fold, to_front, unfold
from hyena.ops.observed import differentiated, exporting

# Elements of (B, chunk of channels, FFT size) worked on at once: 512k float32 is 2 MiB, about an
# L2 cache. On accelerators, where launches cost more than cache misses, everything in one go.
CHUNK_ELEMENTS = 1 << 19
CHUNK_ELEMENTS_DEVICE = 1 << 28


def fast_length(minimum: int) -> int:
    """The smallest even FFT size ≥ ``minimum`` of the form {1, 3, 5, 9, 15}·2^a."""
    best = 0
    for odd in (1, 3, 5, 9, 15):
        size = 2 * odd
        while size < minimum:
            size *= 2
        best = size if best == 0 else min(best, size)
    return best


def fft_length(length: int, taps: int, lead: int) -> int:
    """FFT size at which a circular convolution equals the linear one on the first L outputs."""
    least = length + max(lead, taps - 1 - lead)
    # A program that is exported may take any length, of which no loop could be recorded.
    return (least + 1) // 2 * 2 if exporting() else fast_length(least)


def compute_dtype(u: Tensor, k: Tensor) -> torch.dtype:
    """The dtype of the transforms: the wider of both, at least float32."""
    return torch.promote_types(torch.promote_types(u.dtype, k.dtype), torch.float32)


def spectrum(k: Tensor, n: int, lead: int, dtype: torch.dtype) -> Tensor:
    """Spectrum of filters (D, K) whose first ``lead`` taps have negative lags: (D, n/2 + 1)."""
    k = k.to(dtype)
    if k.shape[0] == 0:  # of no row MKL makes no transform
        return k.new_empty(0, n // 2 + 1, dtype=dtype.to_complex())
    if lead:
        zeros = k.new_zeros(k.shape[0], n - k.shape[1])
        k = torch.cat([k[:, lead:], zeros, k[:, :lead]], dim=1)
    return torch.fft.rfft(k, n=n)


def chunks(u: Tensor, n: int) -> list[slice]:
    """Channel slices of u (B, D, L) that keep B · channels · n near the chunk size."""
    B, D, _ = u.shape
    if exporting():
        return [slice(0, D)]
    budget = CHUNK_ELEMENTS if u.device.type == "cpu" else CHUNK_ELEMENTS_DEVICE
    width = max(1, budget // max(1, B * n))
    return [slice(d, min(d + width, D)) for d in range(0, D, width)]


def multiply_spectrum(u: Tensor, k_spectrum: Tensor, n: int) -> Tensor:
    """conv(u, k) for a filter whose spectrum (D, n/2 + 1) is known; not differentiable in k."""
    L = u.shape[-1]
    real = torch.promote_types(u.dtype, k_spectrum.real.dtype)
    # Made from both, y is mapped by vmap if either is; else it could not be written to.
    y = (u[..., :1] * k_spectrum.real[:, :1]).new_empty(u.shape, dtype=u.dtype)
    for part in chunks(u, n):
        product = torch.fft.rfft(u[:, part].to(real), n=n) * k_spectrum[part]
        y[:, part] = torch.fft.irfft(product, n=n)[..., :L]
    return y


def adjoint(
    dy: Tensor, u: Tensor, k: Tensor, lead: int, need_u: bool, need_k: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of sum(dy · conv(u, k)) in u and in k, those that are needed.

    Conjugates are made at once: inside a registered op, PyTorch may not see a tensor's mark that it
    is to be conjugated.
    """
    L, K = u.shape[-1], k.shape[1]
    n = fft_length(L, K, lead)
    dtype = compute_dtype(u, k)
    du = torch.empty(u.shape, dtype=u.dtype, device=u.device) if need_u else None
    dk = torch.empty_like(k) if need_k else None
    for part in chunks(u, n):
        dy_spectrum = torch.fft.rfft(dy[:, part].to(dtype), n=n)
        if du is not None:
            conjugate = spectrum(k[part], n, lead, dtype).conj_physical()
            du[:, part] = torch.fft.irfft(dy_spectrum * conjugate, n=n)[..., :L]
        if dk is not None:
            u_spectrum = torch.fft.rfft(u[:, part].to(dtype), n=n)
            correlation = torch.fft.irfft((dy_spectrum * u_spectrum.conj_physical()).sum(0), n=n)
            if lead:
                dk[part, :lead] = correlation[:, n - lead :]
            dk[part, lead:] = correlation[:, : K - lead]
    return du, dk


class Convolve(torch.autograd.Function):
    """conv(u, k): u (B, D, L), k (D, K) → (B, D, L)."""

    @staticmethod
    def forward(u: Tensor, k: Tensor, lead: int) -> Tensor:
        n = fft_length(u.shape[-1], k.shape[1], lead)
        return multiply_spectrum(u, spectrum(k, n, lead, compute_dtype(u, k)), n)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        u, k, ctx.lead = inputs
        ctx.save_for_backward(u, k)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        u, k = ctx.saved_tensors
        need_u, need_k, _ = ctx.needs_input_grad
        du, dk = Adjoint.apply(dy, u, k, ctx.lead, need_u, need_k)
        return du, dk, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], u: Tensor, k: Tensor, lead: int) -> Any:
        size = info.batch_size
        if in_dims[1] is None:
            y = Convolve.apply(to_front(u, in_dims[0], size).flatten(0, 1), k, lead)
            return y.unflatten(0, (size, -1)), 0
        u, k = fold(u, in_dims[0], size), to_front(k, in_dims[1], size).flatten(0, 1)
        return unfold(Convolve.apply(u, k, lead), size), 0


class Adjoint(torch.autograd.Function):
    """(du, dk) of sum(dy · conv(u, k)); an output that is not needed is None."""

    @staticmethod
    def forward(
        dy: Tensor, u: Tensor, k: Tensor, lead: int, need_u: bool, need_k: bool
    ) -> tuple[Tensor | None, Tensor | None]:
        return adjoint(dy, u, k, lead, need_u, need_k)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        dy, u, k, ctx.lead, ctx.need_u, ctx.need_k = inputs
        ctx.save_for_backward(dy, u, k)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, a: Tensor | None, b: Tensor | None) -> tuple[Any, ...]:
        # With du = adj_u(dy, k) and dk = adj_k(dy, u), cotangents a of du and b of dk:
        # d/d(dy) = conv(a, k) + conv(u, b), d/du = adj_u(dy, b), d/dk = adj_k(dy, a).
        dy, u, k = ctx.saved_tensors
        need_dy, need_u, need_k = ctx.needs_input_grad[:3]
        grad_dy = grad_u = grad_k = None
        if need_dy and a is not None:
            grad_dy = Convolve.apply(a, k, ctx.lead)
        if need_dy and b is not None:
            term = Convolve.apply(u, b, ctx.lead)
            grad_dy = term if grad_dy is None else grad_dy + term
        need_u, need_k = need_u and b is not None, need_k and a is not None
        if need_u or need_k:
            grad_u, grad_k = Adjoint.apply(
                dy, u if a is None else a, k if b is None else b, ctx.lead, need_u, need_k
            )
        return grad_dy, grad_u, grad_k, None, None, None

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        dy: Tensor,
        u: Tensor,
        k: Tensor,
        lead: int,
        need_u: bool,
        need_k: bool,
    ) -> Any:
        size = info.batch_size
        dy, u = fold(dy, in_dims[0], size), fold(u, in_dims[1], size)
        k = to_front(k, in_dims[2], size).flatten(0, 1)
        du, dk = Adjoint.apply(dy, u, k, lead, need_u, need_k)
        if du is not None:
            du = unfold(du, size)
        if dk is not None:
            dk = dk.unflatten(0, (size, -1))
        return (du, dk), (0 if need_u else None, 0 if need_k else None)


def convolve(u: Tensor, k: Tensor, lead: int) -> Tensor:
    """conv(u, k) with ``lead`` taps of negative lag."""
    y: Tensor = differentiated(Convolve, u, k, lead)
    return y
