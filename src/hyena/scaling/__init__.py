"""Loss against compute: language models of several kinds, trained at sizes and budgets.

A sweep (``config``) is a table of trainings (``plan``). `run_scaling` (``run``) measures how long
they will take (``hours``), and runs each in a process of its own (``cell``), which leaves a record
(``record``) with the operations that the training took (``flops``).
"""

from hyena.scaling.config import Family, ScalingConfig, Size
from hyena.scaling.flops import training_flops
from hyena.scaling.plan import Cell, make_plan
from hyena.scaling.record import Bits, Flops, Result, read_result, read_results
from hyena.scaling.run import run_scaling

__all__ = [
    "Bits",
    "Cell",
    "Family",
    "Flops",
    "Result",
    "ScalingConfig",
    "Size",
    "make_plan",
    "read_result",
    "read_results",
    "run_scaling",
    "training_flops",
]
