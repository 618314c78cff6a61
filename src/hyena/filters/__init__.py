"""Long filters, parametrised."""

from hyena.filters.hyena import HyenaFilter, LengthPolicy

__all__ = ["HyenaFilter", "LengthPolicy"]
