"""`hyena train`: a run from its first step, from a saved model, or from its newest checkpoint."""

from contextlib import nullcontext
from shlex import quote

from hyena.cli.bar import bar
from hyena.training import TrainConfig, train
from hyena.training.checkpoint import CONFIG
from hyena.training.launch import has_launcher, is_first

Config = TrainConfig
POSITIONAL = ("config",)


def run(config: TrainConfig) -> int:
    """Trains and prints the newest checkpoint.

    Returns: 0, or 128 + n if signal n stopped the run, so that a script does not go on with it.
    """
    with bar("steps") if is_first() else nullcontext() as report:
        result = train(config, progress=report)
    if result.rank == 0:
        print(result.checkpoint)
    if result.rank == 0 and result.step < result.steps:
        options = f"--config {quote(str(config.out / CONFIG))} --resume true"
        again = f"the same launcher and {options}" if has_launcher() else f"hyena train {options}"
        print(f"stopped after step {result.step} of {result.steps}; go on with: {again}")
    return 128 + result.signal if result.signal else 0
