"""Whole models: the memory and time of long inputs, and of a step of training."""

from hyena.bench.model import cases, goals, report, run

__all__ = ["cases", "goals", "report", "run"]
