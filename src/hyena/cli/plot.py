"""`hyena plot`: the loss curve of a run and the filters of its model, as PNG."""

from dataclasses import dataclass
from pathlib import Path

from hyena.cli.model_facts import unit_of_loss
from hyena.cli.saved_model import check_length, load_saved
from hyena.cli.values import check_at_least
from hyena.filters import Filter
from hyena.model.saved import find_model
from hyena.plots import draw_filters, draw_loss
from hyena.training.metrics import FILE as METRICS
from hyena.training.metrics import read_metrics

POSITIONAL = "run"


@dataclass
class Config:
    """What to draw."""

    run: Path
    """Folder of a training run; or of a saved model, which has filters but no loss curve."""
    out: Path | None = None
    """Folder for loss.png and filters.png; none takes that of the run."""
    length: int | None = None
    """Taps of the filters to draw; none takes the model's max_length."""

    def __post_init__(self) -> None:
        check_at_least(1, length=self.length)
        if self.out is not None and self.out.suffix in (".png", ".svg", ".pdf"):
            raise ValueError(f"out: expected a folder for both drawings, got the file {self.out}")
        if self.out is not None and self.out.is_file():
            raise ValueError(f"{self.out} is a file; give a folder to --out")


def run(config: Config) -> None:
    """Draws what the folder holds and prints the files written."""
    out = config.run if config.out is None else config.out
    model = load_saved(find_model(config.run))
    check_length(model, config.length, "lower --length")
    if (config.run / METRICS).is_file():
        records = read_metrics(config.run / METRICS)
        print(draw_loss(records, out / "loss.png", unit=unit_of_loss(model)))
    if any(isinstance(module, Filter) for module in model.modules()):
        print(draw_filters(model, out / "filters.png", length=config.length))
    else:
        print("the model has no Hyena layer, so there are no filters to draw")
