"""How the processes of a run share its work: rows, positions of rows, and parameters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Processes in the order of their ranks, of which neighbours share rows and parameters.

    Both are shared by neighbours, apart from each other: a group of one may be in several groups
    of the other, since gradients are the mean over all processes in any case.

    Attributes:
        processes: of the run.
        shard: parts in which each parameter is kept, one on each of so many neighbours.
        context: neighbours that share rows, each with a piece of every row.

    Raises: ValueError unless the processes divide into such groups.
    """

    processes: int
    shard: int = 1
    context: int = 1

    def __post_init__(self) -> None:
        for name, value in (("shard", self.shard), ("context", self.context)):
            if value < 1 or self.processes % value:
                raise ValueError(
                    f"{name}: expected a divisor of devices · num_nodes = {self.processes}, got "
                    f"{value}; make the processes a multiple of it"
                )

    @property
    def groups(self) -> int:
        """Groups of processes, each with rows of its own."""
        return self.processes // self.context

    @property
    def replicas(self) -> int:
        """How often each part of a parameter is kept."""
        return self.processes // self.shard

    def group_of(self, rank: int) -> int:
        """The group whose rows this process reads."""
        return rank // self.context
