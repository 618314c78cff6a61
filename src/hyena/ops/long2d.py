"""The long convolution of images: a filter as large as the image, for each channel its own.

Sizes: B batch, D channels, H × W pixels, I × J taps.
"""

from torch import Tensor
from torch.nn import functional as F

from hyena.ops import _check, naive
from hyena.ops.backend import Backend, resolve_backend
from hyena.ops.long import long_conv


def long_conv2d(
    u: Tensor,
    k: Tensor,
    skip: Tensor | None = None,
    *,
    causal: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    r"""Convolution of each channel of images with its own filter, in O(HW log(HW)).

    .. math:: y_{b,d,h,w} = \sum_{i,j} k_{d,i,j}\,u_{b,d,h-s_i,w-s_j}
        + \mathrm{skip}_d\,u_{b,d,h,w}

    The lag of tap i is s_i = i if causal, else i − (I−1)/2, and so it is of j with J: with
    I = 2H − 1 and J = 2W − 1 taps each output sees the whole image. Poli et al. 2023
    (arXiv:2302.10866), appendix A.4, has filters as large as the image. Definition:
    `hyena.ops.naive.long_conv2d`.

    The image is laid out as one sequence, its rows apart by as many zeros as a tap reaches, and
    convolved by `hyena.ops.long_conv`: see ``docs/mathematics.md``. What that says of rounding
    holds here.

    Args:
        u: images, (B, D, H, W), float32, float64, float16 or bfloat16; any strides.
        k: filters, (D, I, J), floating; taps with a lag beyond the image have no effect. I and J
            are odd if not causal.
        skip: weight of the direct path, (D,); None means zero.
        causal: a pixel sees only what lies neither below it nor to its right; False for a centred
            filter.
        backend: as in `hyena.ops.long_conv`.

    Returns: y, (B, D, H, W), dtype and device of ``u``. Differentiable, twice and under torch.func.
    Raises: TypeError on what is no tensor; ValueError on a shape, dtype or device mismatch;
        RuntimeError if "native" is not built.
    """
    resolve_backend(backend)
    _check.image("long_conv2d", u, k, skip, causal)
    if backend == "naive":
        return naive.long_conv2d(u, k, skip, causal=causal)
    H, W = (max(size, 1) for size in u.shape[2:])
    k = _within(_within(k, H, causal).mT, W, causal).mT
    # Rows of this length: what a tap carries past the end of one is lost in zeros before the next.
    row = W + (k.shape[2] - 1 if causal else k.shape[2] // 2)
    sequence = F.pad(u, (0, row - u.shape[3])).flatten(2)  # (B, D, H·row)
    taps = F.pad(k, (0, row - k.shape[2])).flatten(1)  # (D, I·row)
    taps = taps[:, : taps.shape[1] - (row - k.shape[2])]  # centred, too, since I − 1 is even
    y = long_conv(sequence, taps, skip, causal=causal, backend=backend)
    return y.unflatten(2, (u.shape[2], row))[..., : u.shape[3]]


def _within(k: Tensor, size: int, causal: bool) -> Tensor:
    """The taps (D, I, J) whose lag along the first side is less than its size."""
    if causal:
        return k[:, :size]
    beyond = max((k.shape[1] - 1) // 2 - (size - 1), 0)
    return k[:, beyond : k.shape[1] - beyond]
