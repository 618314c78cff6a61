"""Hyena-ISO: residual blocks of convolutions that are as large as the image.

Sizes: B batch, C colours, H × W pixels, D width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyena.filters.hyena2d import HyenaFilter2d, checked_size
from hyena.mixers.checks import check_dropout
from hyena.model.initialization import initialize
from hyena.ops import Backend, long_conv2d
from hyena.ops.arguments import check_sizes
from hyena.vision.images import check_images


class HyenaISO(nn.Module):
    """Images (B, C, H, W) → logits (B, classes), at every pixel until the mean at last.

    Poli et al. 2023 (arXiv:2302.10866), section 4.5 and appendix A.4, for CIFAR-10: Hyena's filters
    along both sides, without gates, in place of the layers of S4ND (Nguyen et al. 2022,
    arXiv:2210.06583): 4 residual blocks of width 128, dropout 0.1. The defaults are of that size;
    the paper counts 202k parameters, this model 205k.

    A block is that of S4: ``x + glu(linear(gelu(conv(norm(x)))))``, with dropout behind the
    activation and at the end.

    Args:
        size: (H, W), in pixels.
        classes: of the head.
        colours: C, the channels of an image.
        width: D.
        layers: blocks.
        dropout: probability.
        causal: a pixel sees what lies neither below it nor to its right; by default all.
        backend: of the convolutions, see `hyena.ops.long_conv2d`.
        generator: where the initial weights come from; None means PyTorch's own.
        device, dtype: of the parameters.

    Raises: ValueError on settings that cannot be.
    """

    def __init__(
        self,
        size: tuple[int, int] = (32, 32),
        classes: int = 10,
        *,
        colours: int = 3,
        width: int = 128,
        layers: int = 4,
        dropout: float = 0.1,
        causal: bool = False,
        backend: Backend = "auto",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.size = checked_size("HyenaISO", size)
        self.colours, width, classes, layers = check_sizes(
            "HyenaISO", colours=colours, width=width, classes=classes, layers=layers
        )
        dropout = check_dropout("HyenaISO", dropout)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.read_in = nn.Linear(self.colours, width, **place)
        self.blocks = nn.ModuleList(
            [
                _Block(
                    HyenaFilter2d(width, self.size, causal=causal, **place),
                    dropout,
                    backend,
                    **place,
                )
                for _ in range(layers)
            ]
        )
        self.norm = nn.LayerNorm(width, **place)
        self.head = nn.Linear(width, classes, **place)
        initialize(self, layers, generator, linear="pytorch")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W), of the parameters' dtype, with mean 0 and
        variance 1 or so.

        Raises: TypeError on what is no tensor; ValueError on another shape or dtype.
        """
        dtype = self.read_in.weight.dtype
        check_images("HyenaISO", images, self.colours, self.size, dtype)
        x = self.read_in(images.permute(0, 2, 3, 1))  # (B, H, W, D)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean((1, 2)))
        return logits


class _Block(nn.Module):
    """A residual block on (B, H, W, D)."""

    def __init__(
        self, filter: HyenaFilter2d, dropout: float, backend: Backend, **place: Any
    ) -> None:
        super().__init__()
        width = filter.channels
        self.norm, self.filter = nn.LayerNorm(width, **place), filter
        self.out_linear = nn.Linear(width, 2 * width, **place)
        self.dropout, self.backend = dropout, backend

    def forward(self, x: Tensor) -> Tensor:
        u = self.norm(x).permute(0, 3, 1, 2)  # (B, D, H, W)
        y = long_conv2d(
            u, self.filter(), self.filter.skip, causal=self.filter.causal, backend=self.backend
        )
        y = self._dropped(F.gelu(y.permute(0, 2, 3, 1)))
        return x + self._dropped(F.glu(self.out_linear(y)))

    def _dropped(self, y: Tensor) -> Tensor:
        return F.dropout(y, self.dropout, self.training)
