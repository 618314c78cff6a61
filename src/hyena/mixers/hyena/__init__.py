"""The Hyena operator, its fused form, and its generation token by token."""

from hyena.mixers.hyena.operator import HyenaOperator
from hyena.mixers.hyena.state import HyenaState

__all__ = ["HyenaOperator", "HyenaState"]
