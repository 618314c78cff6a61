"""The long convolution and the Hyena operator against what they replace."""

from hyena.bench.convolution import cases, drawings, goals, report, run

__all__ = ["cases", "drawings", "goals", "report", "run"]
