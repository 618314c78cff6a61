"""The long convolution and the Hyena operator against what they replace."""

from hyena.bench.convolution import cases, goals, report, run

__all__ = ["cases", "goals", "report", "run"]
