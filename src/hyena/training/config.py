"""What a training run is made of: one dataclass a part, checked before anything is built."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from hyena.arguments import plural, several
from hyena.data.windows import MOST_WINDOWS
from hyena.filters.budget import KEPT_MEMORY
from hyena.finetuning.config import LANGUAGE_MODELING, LabelsConfig, Task
from hyena.model import ModelConfig
from hyena.model.label_head import Pool
from hyena.model.streaming import WORKING_MEMORY
from hyena.ops.arguments import check_numbers
from hyena.training.device import Accelerator, Precision
from hyena.training.layout import Layout
from hyena.training.lengths import LengthConfig, Stage, stages_of
from hyena.training.limits import (
    check,
    check_choice,
    check_least,
    check_most,
    check_not_negative,
    check_positive,
    check_seed,
)
from hyena.training.optimizer import OptimizerConfig


@dataclass
class ScheduleConfig:
    """Linear warm-up, then a cosine to the floor at the end of the run."""

    warmup_steps: int | None = None
    """Steps of the linear warm-up; none means a hundredth of the steps to the floor."""
    start_lr: float = 1e-6
    """Learning rate of the first warm-up step."""
    min_lr: float | None = None
    """Learning rate the cosine ends at; none means a tenth of the peak."""
    steps: int | None = None
    """Step at which the cosine is at its floor, where the rate then stays; none means the end of
    the run, or, if it was given more steps since, the end that it had first."""

    def end(self, steps: int) -> int:
        """Steps to the floor, in a run of ``steps`` steps."""
        return steps if self.steps is None else self.steps

    def warmup(self, steps: int) -> int:
        """Steps of the warm-up in a run of ``steps`` steps."""
        return self.end(steps) // 100 if self.warmup_steps is None else self.warmup_steps

    def floor(self, peak: float) -> float:
        """The learning rate the cosine ends at, for a run with the given peak."""
        return peak / 10 if self.min_lr is None else self.min_lr


@dataclass
class EvaluationConfig:
    """Periodic evaluation on the validation split."""

    every: int = 100
    """Evaluate after every so many steps, and after the last one; 0 means never."""
    batches: int = 16
    """Number of batches of batch/accumulate windows each, the same windows every time. Of a task
    with labels all rows are evaluated that are held out."""


@dataclass
class CheckpointConfig:
    """When checkpoints are written and which ones stay."""

    every: int = 500
    """Write a checkpoint after every so many steps, and after the last one; 0: the last only."""
    keep: int = 2
    """How many of the newest checkpoints stay on disk."""
    best: bool = True
    """Also write a checkpoint when the validation loss improves, and keep the best one."""
    sharded: bool = False
    """Each process writes the part that it keeps, in a file of its own, in place of the first one
    all."""


@dataclass
class TrainConfig:
    """What to train, on what, and how."""

    data: Path
    """Folder of prepared tokens (written by `hyena prepare`); of a task with labels a file of rows,
    .tsv, .csv or .jsonl, packed with gzip or not."""
    out: Path
    """Folder of this run: checkpoints, metrics.jsonl and the resolved configuration."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The language model."""
    init: Path | None = None
    """Begin with the weights of this saved model, checkpoint or run (of which the best checkpoint
    is taken), with a new optimizer. The model is then that one, and of `model` only dropout,
    length_policy and block_causal count."""
    # Several on the command line, as of hyena.cli.options.
    freeze: list[str] | str = field(default_factory=list, metadata={"repeated": True})
    """Do not train the parameters whose whole names match this pattern, in which * is any text, as
    in 'embedding.*'. May be given several times."""
    task: Task = "language-modeling"
    """What the model is trained for: the next token, or with a head for labels a class of each
    sequence, numbers of it (regression), or a class of each of its letters."""
    labels: LabelsConfig = field(default_factory=LabelsConfig)
    """Sequences with labels, for every task but language-modeling."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its parameter groups."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Learning rate over the steps: linear warm-up, then cosine."""
    steps: int = 1000
    """Number of optimizer steps of the whole run."""
    batch: int = 32
    """Windows, or rows with labels, in one optimizer step, over all devices and accumulated micro
    batches."""
    length: int | None = None
    """Tokens in a window; none means the model's max_length."""
    lengths: list[LengthConfig] = field(default_factory=list)
    """Steps at one length after the other, instead of length. The batch is that of the first; each
    step has as many tokens."""
    accumulate: int = 1
    """Number of micro batches a step's batch is cut into: less memory, the same gradient."""
    clip: float | None = 1.0
    """Largest global norm of the gradient; none means no clipping."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and dropout."""
    cross_documents: bool = False
    """Let the model look across the document boundaries inside a window."""
    precision: Precision = "32"
    """Arithmetic: float32, float64, or bfloat16 autocast over float32 weights."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass instead of storing its activations."""
    working_memory: int = WORKING_MEMORY
    """Bytes of hidden values beyond which a block takes a long input in pieces; fewer take less
    memory and more time."""
    kept_memory: int = KEPT_MEMORY
    """Bytes that all filters together keep their spectra in between the
    calls of an evaluation; 0 keeps none."""
    deterministic: bool = False
    """Use deterministic algorithms only, which makes a resumed CUDA run bitwise equal too."""
    accelerator: Accelerator = "auto"
    """Where to train; "auto" takes CUDA or MPS when present, else the CPU."""
    devices: int = 1
    """Devices on this machine, or processes on the CPU; each has rows of its own, unless `context`
    has several share them."""
    num_nodes: int = 1
    """Machines; more than one needs a launcher such as torchrun on each."""
    shard: int = 1
    """Parts in which each parameter, its gradient and its moments are kept, one on each of so many
    processes (FSDP2); 1 keeps them whole on each."""
    context: int = 1
    """Processes that share rows, each with a piece of every row; 1 leaves rows whole."""
    timeout: float = 600.0
    """Seconds that a process waits for the others before it gives the run up. The first process
    writes checkpoints meanwhile."""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation on the validation split."""
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    """Checkpoints."""
    log_every: int = 1
    """Write a line to metrics.jsonl every so many steps (and at each evaluation)."""
    tensorboard: bool = False
    """Write TensorBoard events as well, to `out`/tensorboard."""
    resume: bool = False
    """Continue from the newest checkpoint in `out`; starts anew if there is none."""
    stop_after: int | None = None
    """Write a checkpoint and stop after so many steps of this very run."""

    def window(self) -> int:
        """Tokens in a window; of several lengths the first."""
        if self.lengths:
            return self.lengths[0].length
        return self.model.max_length if self.length is None else self.length

    def tokens_per_step(self) -> int:
        """Tokens in a step, the same at every length."""
        return self.batch * self.window()

    def layout(self) -> Layout:
        """How the processes share the work. Raises: ValueError unless they can."""
        return Layout(self.devices * self.num_nodes, self.shard, self.context)

    def stages(self) -> list[Stage]:
        """The lengths of the windows, one after the other."""
        if self.lengths:
            return stages_of(self.lengths, self.batch)
        return [Stage(0, self.window(), self.batch)]


def check_config(config: TrainConfig) -> None:
    """Refuses a configuration that cannot work.

    Raises: ValueError naming the field, its value and what is expected.
    """
    least = dict.fromkeys(("steps", "batch", "length", "accumulate", "devices", "num_nodes"), 1)
    least |= dict.fromkeys(("log_every", "stop_after", "evaluation.batches", "checkpoint.keep"), 1)
    least |= dict.fromkeys(("shard", "context"), 1)
    least |= dict.fromkeys(("evaluation.every", "checkpoint.every", "schedule.warmup_steps"), 0)
    least |= dict.fromkeys(("working_memory", "kept_memory"), 0)
    check_least(config, {**least, "schedule.steps": 1})
    check_most(config, MOST_WINDOWS, "batch")
    check_seed(config)
    check_choice(config, {"precision": Precision, "accelerator": Accelerator, "task": Task})
    check_positive(config, "optimizer.lr", "optimizer.eps", "clip", "timeout")
    rates = ("weight_decay", "filter_lr", "encoding_lr")
    check_not_negative(config, *(f"optimizer.{name}" for name in rates))
    for i, rule in enumerate(config.optimizer.rules):
        check_not_negative(rule, "lr", "lr_scale", "weight_decay", of=f"optimizer.rules[{i}].")
    check(config, ["optimizer.betas"], lambda x: 0 <= min(x) <= max(x) < 1, "both in [0, 1)")
    config.layout()
    texts = "patterns of parameters' names"
    check(config, ["freeze"], lambda x: all(isinstance(p, str) for p in several(x)), texts)
    _check_schedule(config)
    if config.task != LANGUAGE_MODELING:
        _check_labels(config)
        return
    if config.labels != LabelsConfig():
        raise ValueError(
            "labels is of the tasks with labels, but the task is language-modeling; give another "
            "task, such as classification, or leave it out"
        )
    for i, part in enumerate(config.lengths):
        check_least(part, {"length": 1, "steps": 1}, of=f"lengths[{i}].")
    _check_lengths(config)


def _check_schedule(config: TrainConfig) -> None:
    schedule = config.schedule
    for name, lr in (
        ("schedule.start_lr", schedule.start_lr),
        ("schedule.min_lr", schedule.floor(config.optimizer.lr)),
    ):
        if not 0 <= lr <= config.optimizer.lr:
            raise ValueError(
                f"{name}: expected 0 to the peak optimizer.lr {config.optimizer.lr:g}, got {lr:g}; "
                "lower it or raise optimizer.lr"
            )
    end = schedule.end(config.steps)
    if schedule.warmup(config.steps) > end:
        whose, option = ("run", "steps") if schedule.steps is None else ("schedule", "its steps")
        raise ValueError(
            f"schedule.warmup_steps is {schedule.warmup_steps}, but the {whose} has {end} "
            f"{plural(end, 'step')}; lower it or raise {option}"
        )


def _check_labels(config: TrainConfig) -> None:
    """Raises ValueError if a task with labels has options of windows, or ones that cannot be."""
    for name in ("shard", "context"):
        if getattr(config, name) > 1:
            raise ValueError(
                f"{name} is of language models, but the task is {config.task}; leave it out, to "
                "train on several devices with whole parameters and rows"
            )
    for name in ("length", "lengths", "cross_documents"):
        if getattr(config, name):
            raise ValueError(
                f"{name} is of windows of text, but the task is {config.task}, whose sequences are "
                "taken whole; leave it out"
            )
    check_choice(config, {"labels.pool": Pool})
    share = "a share, from 0 to below 1"
    check(config, ["labels.fraction"], lambda x: 0 <= x < 1, share)
    columns, several_may_be = several(config.labels.columns), config.task == "regression"
    different = len({config.labels.sequence, *columns}) == 1 + len(columns)
    if not columns or not different or (len(columns) > 1 and not several_may_be):
        wanted = "one column or more, each once" if several_may_be else "one column"
        raise ValueError(
            f"labels.columns: expected {wanted}, beside that of the sequences, "
            f"{config.labels.sequence}; got {', '.join(map(str, columns)) or 'none'}"
        )
    _check_parts(config, config.batch)


def _check_parts(config: TrainConfig, batch: int, windows: str = "") -> None:
    """Raises ValueError unless a batch can be cut into the parts of all processes."""
    parts = config.layout().groups * config.accumulate
    shared = " / context" if config.context > 1 else ""
    if batch % parts:
        raise ValueError(
            f"batch is {batch}{windows}, but has to be cut into devices · num_nodes{shared} · "
            f"accumulate = {parts} equal parts; use a multiple of {parts}"
        )


def _check_lengths(config: TrainConfig) -> None:
    """Raises ValueError if the windows are none of the model's, or not those of a batch."""
    if config.lengths and config.length is not None:
        raise ValueError(
            f"length is {config.length}, but lengths says how long the windows are; leave one of "
            "them out"
        )
    planned = sum(part.steps for part in config.lengths)
    may_have_more = config.resume and planned < config.steps  # the last length then goes on
    if config.lengths and planned != config.steps and not may_have_more:
        raise ValueError(
            f"lengths has {planned:,} {plural(planned, 'step')}, but steps is {config.steps:,}; "
            "make them equal"
        )
    longest = max(part.length for part in config.stages())
    if config.model.length_policy == "error" and longest > config.model.max_length:
        built = "" if config.init else "raise model.max_length, "
        raise ValueError(
            f"length is {longest}, but model.max_length is {config.model.max_length}; lower "
            f"length, {built}or choose another model.length_policy"
        )
    for part in config.stages():
        if config.tokens_per_step() % part.length:
            raise ValueError(
                f"lengths: expected one that divides the tokens of a step, {config.batch} · "
                f"{config.window()}, got {part.length}; choose another, or another batch"
            )
        _check_parts(config, part.batch, f" windows of {part.length}" if config.lengths else "")


def learning_rate(
    step: int, *, peak: float, start: float, floor: float, warmup: int, steps: int
) -> float:
    r"""Learning rate of the update that follows ``step`` finished ones.

    .. math:: \eta_s = \begin{cases}
        a + (p - a)\,s / w & s < w \\
        f + \tfrac12 (p - f)\,(1 + \cos(\pi\,(s - w) / (S - w))) & s \ge w
        \end{cases}

    Poli et al. 2023 (arXiv:2302.10866), Table A.4 gives p = 6e-4, a = 1e-6 and f = 6e-5.

    Args:
        step: s, updates done so far; from S on the rate stays at the floor.
        peak: p, reached at step w.
        start: a, the rate at step 0 if there is a warm-up.
        floor: f, the rate at step S.
        warmup: w, steps of warm-up.
        steps: S, steps to the floor.

    Raises: ValueError on what is no finite number.
    """
    check_numbers("learning_rate", step=step, warmup=warmup, steps=steps)
    check_numbers("learning_rate", peak=peak, start=start, floor=floor)
    if step < warmup:
        return start + (peak - start) * step / warmup
    if step >= steps:
        return floor
    return floor + 0.5 * (peak - floor) * (
        1 + math.cos(math.pi * (step - warmup) / (steps - warmup))
    )
