"""Loss against compute: language models of several kinds, trained at sizes and budgets.

A sweep (``config``) is a table of trainings (``plan``). `run_scaling` (``run``) measures how long
they will take (``hours``), and runs each in a process of its own (``cell``), which leaves a record
(``record``) with the operations that the training took (``flops``). `write_table` (``table``) says
what the families save over one of them (``comparison``), by curves that are fitted to their losses
(``fit``, ``saving``), and what each change to a family does to its perplexity (``changes``).
"""

from hyena.scaling.config import Change, Family, ScalingConfig, Size
from hyena.scaling.fit import Curve, JointLaw, fit_curve, fit_curves, fit_joint
from hyena.scaling.flops import training_flops
from hyena.scaling.plan import Cell, make_plan
from hyena.scaling.record import Bits, Flops, Result, read_result, read_results
from hyena.scaling.run import run_scaling
from hyena.scaling.saving import Saving, Trend, find_saving, fit_trend
from hyena.scaling.table import write_table

__all__ = [
    "Bits",
    "Cell",
    "Change",
    "Curve",
    "Family",
    "Flops",
    "JointLaw",
    "Result",
    "Saving",
    "ScalingConfig",
    "Size",
    "Trend",
    "find_saving",
    "fit_curve",
    "fit_curves",
    "fit_joint",
    "fit_trend",
    "make_plan",
    "read_result",
    "read_results",
    "run_scaling",
    "training_flops",
    "write_table",
]
