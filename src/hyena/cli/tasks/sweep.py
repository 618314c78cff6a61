"""`hyena tasks sweep`: the cells of a table."""

from collections.abc import Sequence

from hyena.cli.bar import bar
from hyena.cli.options import parse
from hyena.cli.tasks.table import shown
from hyena.experiments import CellConfig, SweepConfig, make_plan, run_sweep, write_table
from hyena.experiments.executors import starter

Config = SweepConfig
POSITIONAL = "config"


def run(config: SweepConfig) -> int:
    """Runs what is not finished yet, and writes the table and its figures.

    Returns: 0; 1 if a cell failed; 128 + n if signal n stopped it.
    """
    groups = make_plan(config, read_cell)
    with bar("cells") as report:
        start = starter(config.executor, config.job_options, config.out)
        end = run_sweep(groups, config.out, jobs=config.jobs, start=start, progress=report)
    print(shown(write_table([config.out], config.out)))
    if end.signal:
        return 128 + end.signal
    return int(end.failed > 0)


def read_cell(words: Sequence[str]) -> CellConfig:
    """A cell from the words after ``hyena tasks run``. Raises: ValueError if they are wrong."""
    config = parse("tasks run", "a cell", CellConfig, None, words)
    if config is None:
        raise ValueError("help and print_config are no options of a cell")
    return config
