"""What a model of images is given.

Sizes: B batch, C colours, H × W pixels.
"""

from torch import Tensor

from hyena.ops.arguments import FLOATS, check_tensor


def check_images(name: str, images: Tensor, colours: int, size: tuple[int, int]) -> None:
    """Raises TypeError unless images are a tensor, and ValueError unless it is (B, C, H, W) of
    floating point."""
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
