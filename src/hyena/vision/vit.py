"""Hyena-ViT: a Vision Transformer with the Hyena operator in place of attention.

Sizes: B batch, C colours, H × W pixels, L patches, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from hyena.arguments import check_whole
from hyena.filters import HyenaFilter
from hyena.filters.hyena2d import checked_size
from hyena.mixers import HyenaOperator
from hyena.model.initialization import initialize
from hyena.model.mlp import MLP
from hyena.ops import Backend
from hyena.ops.arguments import check_sizes
from hyena.vision.images import check_images


class HyenaViT(nn.Module):
    """Images (B, C, H, W) → logits (B, classes).

    Poli et al. 2023 (arXiv:2302.10866), section 4.5 and appendix A.4: the operator of the language
    models over the patches of an image, row by row; no class token, no positional embedding; the
    mean over all patches goes to the head. Blocks are ``x + mixer(norm(x))``, then
    ``x + mlp(norm(x))``. The defaults are the size of the paper's Hyena-ViT-B/16.

    Patches of one pixel make it a model of the sequence of all pixels, as for sequential MNIST.

    Initial weights are those of a language model, see `hyena.model.initialization`.

    Args:
        size: (H, W), in pixels.
        classes: of the head.
        colours: C, the channels of an image.
        patch: pixels of a patch's side, which divides both sides of the image.
        width: D.
        layers: blocks.
        hidden: width of the MLPs between their layers.
        order: of the operators.
        causal: as in the paper, a patch sees those before it; False: each sees all.
        backend: of the long convolutions, see `hyena.ops.long_conv`.
        generator: where the initial weights come from; None means PyTorch's own.
        device, dtype: of the parameters.

    Raises: ValueError on sizes that cannot be, or do not fit together.
    """

    def __init__(
        self,
        size: tuple[int, int] = (224, 224),
        classes: int = 1000,
        *,
        colours: int = 3,
        patch: int = 16,
        width: int = 768,
        layers: int = 12,
        hidden: int = 3072,
        order: int = 2,
        causal: bool = True,
        backend: Backend = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size = checked_size("HyenaViT", size)
        self.colours, self.patch, width, classes = check_sizes(
            "HyenaViT", colours=colours, patch=patch, width=width, classes=classes
        )
        layers, hidden = check_sizes("HyenaViT", layers=layers, hidden=hidden)
        order = check_whole("HyenaViT: order", order, 2)
        if any(side % self.patch for side in self.size):
            raise ValueError(
                f"HyenaViT: expected a patch that divides both sides of the image, got patch="
                f"{self.patch} and size={self.size}"
            )
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        patches = (self.size[0] // self.patch) * (self.size[1] // self.patch)
        self.patch_embedding = nn.Linear(self.colours * self.patch**2, width, **place)
        self.blocks = nn.ModuleList(
            [
                _Block(
                    HyenaOperator(
                        width,
                        patches,
                        order,
                        bidirectional=not causal,
                        filter=HyenaFilter(
                            width,
                            patches,
                            filters=order - 1,
                            sine_freq=14.0,  # the paper's, for weights as small as these
                            bidirectional=not causal,
                            **place,
                        ),
                        backend=backend,
                        **place,
                    ),
                    hidden,
                    **place,
                )
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width, **place)
        self.head = nn.Linear(width, classes, **place)
        initialize(self, layers, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W), of the parameters' dtype, with mean 0 and
        variance 1 or so.

        Raises: TypeError on what is no tensor; ValueError on another shape or dtype.
        """
        dtype = self.patch_embedding.weight.dtype
        check_images("HyenaViT", images, self.colours, self.size, dtype)
        x = self.patch_embedding(patches_of(images, self.patch))  # (B, L, D)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


def patches_of(images: Tensor, side: int) -> Tensor:
    """(B, L, C·side·side): the patches row by row, of each its colours one after the other."""
    x = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, H/p, p, W/p, p)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


class _Block(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, on (B, L, D)."""

    def __init__(self, mixer: HyenaOperator, hidden: int, **place: Any) -> None:
        super().__init__()
        width = mixer.width
        self.norm1, self.mixer = nn.LayerNorm(width, **place), mixer
        self.norm2, self.mlp = nn.LayerNorm(width, **place), MLP(width, hidden, **place)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y
