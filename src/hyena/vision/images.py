"""What a model of images is given.

Sizes: B batch, C colours, H × W pixels.
"""

import torch
from torch import Tensor

from hyena.mixers.checks import check_dtype
from hyena.ops.arguments import FLOATS, check_tensor


def check_images(
    name: str, images: Tensor, colours: int, size: tuple[int, int], dtype: torch.dtype
) -> None:
    """Raises TypeError unless images are a tensor, and ValueError unless it is (B, C, H, W) of the
    weights' dtype, or autocast converts it."""
    check_tensor(name, "images", images)
    expected = (colours, *size)
    if images.dim() != 4 or images.shape[1:] != expected:
        shape = ", ".join(map(str, expected))
        raise ValueError(f"{name}: expected images (B, {shape}), got {tuple(images.shape)}")
    if images.dtype not in FLOATS:
        raise ValueError(
            f"{name}: expected images of floating point, got {images.dtype}; images.float() / 255 "
            "makes them of bytes"
        )
    check_dtype(name, images, dtype, called="images are")
