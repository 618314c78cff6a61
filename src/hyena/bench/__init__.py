"""The benchmark behind `hyena bench`: the convolution and the operator against their rivals.

Everything that is timed is compared with float64 first. Contenders of a row run in turns in one
process; each allocator has a process of its own. ``docs/benchmarks.md`` says what each row is.
"""

from hyena.bench.cases import Cell
from hyena.bench.goals import Goal, goals
from hyena.bench.report import report
from hyena.bench.rivals import AttentionBlock, PublicOperator, public_gated_conv
from hyena.bench.runner import Options, run
from hyena.bench.timing import Timing, time_in_turns

__all__ = [
    "AttentionBlock",
    "Cell",
    "Goal",
    "Options",
    "PublicOperator",
    "Timing",
    "goals",
    "public_gated_conv",
    "report",
    "run",
    "time_in_turns",
]
