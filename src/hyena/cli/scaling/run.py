"""`hyena scaling run`: the trainings of a scaling sweep."""

from hyena.cli.bar import bar
from hyena.scaling import ScalingConfig, run_scaling

Config = ScalingConfig
POSITIONAL = "config"


def run(config: ScalingConfig) -> int:
    """Runs what is not finished yet, and prints the folder with the records.

    Returns: 0; 1 if a training failed; 128 + n if signal n stopped it.
    """
    with bar("trainings") as report:
        end = run_scaling(config, progress=report)
    if end.signal:
        return 128 + end.signal
    if not config.plan:
        print(config.out)
    return int(end.failed > 0)
