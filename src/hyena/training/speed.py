"""How fast this machine trains a model: a few steps of the training loop itself, on random tokens.

Sizes: B rows of a micro batch on one device, L length.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

import torch

from hyena.arguments import several
from hyena.data import Windows
from hyena.model import LanguageModel
from hyena.training.config import TrainConfig, check_config
from hyena.training.initial import freeze, resolved
from hyena.training.launch import launched
from hyena.training.loop import Step, Update, reproducible, train_steps
from hyena.training.optimizer import adamw
from hyena.training.processes import StopRequest
from hyena.training.run import window_loss

STEPS = 3
"""Steps whose median is taken, after one that is not counted."""

SECONDS = 20.0
"""What these steps may take; where they would take more, fewer rows are measured, or one step."""


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        device: where, such as "cpu" or "cuda".
        rows: of the micro batch; up to B, fewer where B would have taken too long.
        length: L.
        seconds: of a micro batch, forward and backward, with an update after it.
    """

    device: str
    rows: int
    length: int
    seconds: float


def measure_speed(config: TrainConfig, *, seconds: float = SECONDS) -> Speed:
    """Trains a model of the configuration for a few steps, in this process alone.

    The tokens are random, each window one document; the learning rate is 0, which takes the time of
    any other and changes no weight. Nothing is read or written, and random state is left alone.

    Args:
        config: of a run, on any number of devices: one process with its share of a micro batch is
            measured.
        seconds: what the measured steps should take at most. Two steps of one row are always run.

    Raises: as `hyena.training.train` of what can be wrong with a configuration or a device;
        torch.OutOfMemoryError, or RuntimeError on a CPU, if the memory does not suffice.
    """
    config = resolved(config)
    check_config(config)
    rows = config.batch // (config.layout().groups * config.accumulate)
    alone = replace(config, batch=1, devices=1, num_nodes=1, shard=1, context=1, accumulate=1)
    with torch.random.fork_rng(devices=()):  # PyTorch's layers draw from its own generator
        model = LanguageModel(config.model, generator=torch.Generator().manual_seed(config.seed))
    if config.precision == "64":
        model.double()
    model.activation_checkpointing = config.activation_checkpointing
    model.working_memory = config.working_memory
    freeze(model, several(config.freeze))
    optimizer = adamw(model, config.optimizer)
    with (
        launched(alone, lambda: None) as fabric,
        reproducible(fabric.device, deterministic=config.deterministic),
    ):
        wrapped = fabric.setup_module(model)
        model.train()

        def timed(rows: int, steps: int) -> float:
            course = _Course(config, rows, steps, fabric.device)
            request = StopRequest()
            train_steps(
                course, wrapped, optimizer, clip=config.clip, request=request, fabric=fabric
            )
            return median(course.seconds[1:])

        one = timed(1, 1)
        affordable = int(seconds / ((STEPS + 1) * one))
        rows = max(1, min(rows, affordable))
        best = timed(rows, STEPS) if affordable else one
    return Speed(fabric.device.type, rows, config.window(), best)


class _Course:
    """Steps of one micro batch; the first is not counted."""

    def __init__(self, config: TrainConfig, rows: int, steps: int, device: torch.device) -> None:
        self.steps, self.device = steps, device
        self.seconds: list[float] = []
        generator = torch.Generator().manual_seed(config.seed)
        shape = rows, config.window() + 1
        ids = torch.randint(config.model.vocab_size, shape, generator=generator)
        inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
        self.windows = Windows(inputs, targets, torch.zeros_like(inputs))

    def is_over(self) -> bool:
        return len(self.seconds) > self.steps

    def step(self) -> Step[Windows]:
        def loss(model: torch.nn.Module, part: Windows) -> torch.Tensor:
            return window_loss(model, part, self.device)

        return Step([self.windows], loss, factor=0.0, seed=0)

    def updated(self, update: Update) -> None:
        self.seconds.append(update.seconds)
