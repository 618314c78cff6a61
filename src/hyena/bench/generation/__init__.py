"""Generation, token by token, against what it replaces."""

from hyena.bench.generation import cases, drawings, goals, report, run

__all__ = ["cases", "drawings", "goals", "report", "run"]
