"""Models of images: the paper's Hyena-ViT, and Hyena-ISO, whose filters have two sides."""

from hyena.vision.iso import HyenaISO
from hyena.vision.vit import HyenaViT

__all__ = ["HyenaISO", "HyenaViT"]
