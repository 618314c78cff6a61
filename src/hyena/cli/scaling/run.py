"""`hyena scaling run`: the trainings of a scaling sweep."""

from hyena.cli.bar import bar
from hyena.cli.scaling.table import shown
from hyena.scaling import ScalingConfig, run_scaling, write_table

Config = ScalingConfig
POSITIONAL = "config"


def run(config: ScalingConfig) -> int:
    """Runs what is not finished yet, writes the table and its figures, and prints what each family
    saves.

    Returns: 0; 1 if a training failed; 128 + n if signal n stopped it.
    """
    with bar("trainings") as report:
        end = run_scaling(config, progress=report)
    if end.signal:
        return 128 + end.signal
    if not config.plan:
        print(shown(write_table(config.out)))
    return int(end.failed > 0)
