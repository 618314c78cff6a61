"""`hyena tasks run`: one model on one task."""

from hyena.arguments import plural
from hyena.cli.bar import bar
from hyena.experiments import CellConfig, run_cell, with_interval

Config = CellConfig
POSITIONAL = "task.name"


def run(config: CellConfig) -> int:
    """Trains, measures and prints the result.

    Returns: 0, or 128 + n if signal n stopped it.
    """
    with bar("steps") as report:
        end = run_cell(config, progress=report)
    if end.result is None:
        print(f"stopped after step {end.step} of {end.steps}; the same command goes on")
        return 128 + end.signal
    result = end.result
    print(
        f"{result.test.measure} {with_interval(result.test)} on {result.test.sequences} test "
        f"{plural(result.test.sequences, 'sequence')}, after {result.steps} of {end.steps} "
        f"{plural(end.steps, 'step')}, {result.tokens:,} tokens and "
        f"{result.minutes:.1f} minutes; {result.parameters:,} parameters"
    )
    print(config.out)
    return 0
