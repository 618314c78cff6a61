"""What genomics asks of the package: scores, vectors, files, and StripedHyena 2's operators."""

from hyena.bench.genomes import cases, goals, report, run

__all__ = ["cases", "goals", "report", "run"]
