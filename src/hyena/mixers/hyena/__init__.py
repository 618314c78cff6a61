"""The Hyena operator, its fused form, its matrix, and its generation token by token."""

from hyena.mixers.hyena.matrix import HyenaMatrix, hyena_matrix
from hyena.mixers.hyena.operator import HyenaOperator
from hyena.mixers.hyena.state import HyenaState

__all__ = ["HyenaMatrix", "HyenaOperator", "HyenaState", "hyena_matrix"]
