"""What is compared: the models of the paper, and a Vision Transformer with as many parameters."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from vision_data import CLASSES, SIDE

from hyena.vision import HyenaISO, HyenaViT
from hyena.vision.vit import patches_of


class ViT(nn.Module):
    """A Vision Transformer (Dosovitskiy et al. 2020, arXiv:2010.11929): pictures (B, 1, H, W) →
    logits (B, classes).

    PyTorch's own encoder, in which each patch sees all; a class token, positions that are learned.

    Args: patch, pixels of its side; width; layers; hidden, of the MLPs; where the initial weights
        come from.
    """

    def __init__(
        self,
        patch: int,
        width: int,
        layers: int,
        hidden: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.patch_embedding = nn.Linear(patch**2, width)
        self.class_token = nn.Parameter(torch.empty(1, width))
        self.positions = nn.Parameter(torch.empty((SIDE // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(
            width,
            nhead=max(1, width // 16),
            dim_feedforward=hidden,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.head = nn.Linear(width, CLASSES)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.trunc_normal_(parameter, std=0.02, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.patch_embedding(patches_of(pictures, self.patch))
        first = self.class_token.expand(len(x), -1, -1)
        x = self.encoder(torch.cat([first, x], dim=1) + self.positions)
        logits: Tensor = self.head(x[:, 0])
        return logits


def parameters_of(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def rival_of(parameters: int, patch: int, width: int, layers: int) -> int:
    """The width of the MLPs with which a `ViT` has this many parameters, to within half of what one
    more would add.

    Raises: ValueError if it has more without any.
    """
    least, more = (parameters_of(ViT(patch, width, layers, hidden)) for hidden in (1, 2))
    hidden = 1 + round((parameters - least) / (more - least))
    if hidden < 1:
        raise ValueError(f"a ViT of this width has more than {parameters:,} parameters")
    return hidden


def models(
    patch: int, width: int, layers: int, hidden: int, iso_width: int, iso_layers: int
) -> dict[str, Callable[[], nn.Module]]:
    """What makes each model, by its name.

    Args: patch, width, layers and hidden of Hyena-ViT, of which ViT has all but the last; width and
        layers of Hyena-ISO, which is left out if it has none.
    """

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    def hyena() -> HyenaViT:
        sizes = {"patch": patch, "width": width, "layers": layers, "hidden": hidden}
        return HyenaViT((SIDE, SIDE), CLASSES, colours=1, **sizes, generator=seeded())

    def attention() -> ViT:
        return ViT(
            patch, width, layers, rival_of(parameters_of(hyena()), patch, width, layers), seeded()
        )

    def iso() -> HyenaISO:
        sizes = {"width": iso_width, "layers": iso_layers}
        return HyenaISO((SIDE, SIDE), CLASSES, colours=1, **sizes, generator=seeded())

    made: dict[str, Callable[[], nn.Module]] = {"ViT": attention, "Hyena-ViT": hyena}
    return {**made, "Hyena-ISO": iso} if iso_layers else made
