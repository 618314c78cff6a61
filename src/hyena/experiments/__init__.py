"""Experiments on the tasks: one model on one task, sweeps over many, tables and figures.

A cell is one model trained on one task from one seed (``cell``). `run_cell` (``run``) trains it
through its phases (``curriculum``), measures and records it (``measure``,
``record``). A sweep is a table of cells (``plan``), each run in a process of its own (``sweep``,
``jobs``), and written up beside the paper's figures (``table``, ``paper``).
"""

from hyena.experiments.cell import CellConfig, TaskTraining
from hyena.experiments.jobs import SweepEnd
from hyena.experiments.measure import Measurement, with_interval
from hyena.experiments.paper import paper_figure
from hyena.experiments.plan import Group, Row, SweepConfig, make_plan
from hyena.experiments.record import Result, Standing, read_result, read_standings
from hyena.experiments.regression_model import RegressionModel
from hyena.experiments.run import End, run_cell
from hyena.experiments.sweep import run_sweep
from hyena.experiments.table import write_table

__all__ = [
    "CellConfig",
    "End",
    "Group",
    "Measurement",
    "RegressionModel",
    "Result",
    "Row",
    "Standing",
    "SweepConfig",
    "SweepEnd",
    "TaskTraining",
    "make_plan",
    "paper_figure",
    "read_result",
    "read_standings",
    "run_cell",
    "run_sweep",
    "with_interval",
    "write_table",
]
