"""`hyena train`: a run from its first step, or from its newest checkpoint."""

from hyena.training import TrainConfig, train

Config = TrainConfig
POSITIONAL = None


def run(config: TrainConfig) -> None:
    """Trains and prints the last checkpoint."""
    print(train(config))
