"""Generation, token by token, against what it replaces."""

from hyena.bench.generation import cases, goals, report, run

__all__ = ["cases", "goals", "report", "run"]
