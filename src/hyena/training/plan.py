"""What a training run will take, reckoned before it starts: memory, operations, tokens and time.

Arithmetic alone; `hyena.training.speed` measures what the time on this machine is reckoned from.

Sizes: B rows of a micro batch on one device, L length, P parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyena.arguments import several
from hyena.data import WindowSampler, is_prepared, open_tokens
from hyena.distributed import cost
from hyena.finetuning.config import LANGUAGE_MODELING
from hyena.model import LanguageModel, ModelFlops
from hyena.model.build import layers_in_words
from hyena.model.flops import flops
from hyena.model.memory import activation_bytes, reckons
from hyena.model.passes import step_flops
from hyena.training.config import TrainConfig, check_config
from hyena.training.device import Precision
from hyena.training.hardware import Hardware
from hyena.training.initial import freeze, resolved
from hyena.training.layout import Layout
from hyena.training.optimizer import parameter_groups
from hyena.training.speed import Speed

UTILISATION = 0.35
"""Share of an accelerator's peak that is taken for reached where nobody has measured it: between
the 21.3% of GPT-3 and the 46.2% of PaLM (Chowdhery et al. 2022, arXiv:2204.02311, Table 3)."""

# Of a layer, what autocast runs as products of bfloat16 matrices; the head is one too.
_PRODUCTS = ("projections", "scores", "values", "output", "mlp")

_UPDATE_BYTES = 7 * 4
"""AdamW reads weight, gradient and two moments, and writes all but the gradient, in float32."""


@dataclass(frozen=True)
class Work:
    """Operations of one device on a micro batch, as executed, filters made anew.

    Attributes:
        products: in products of matrices, which autocast runs in bfloat16.
        other: in filters, transforms, gates and softmax, which are float32 under autocast.
    """

    products: float
    other: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.products + self.other


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step on one device, beside Python and PyTorch.

    Attributes:
        state: weights, gradients and AdamW's moments, or the parts that are here; and between
            several processes a copy of the gradients, or what is whole meanwhile: the least that a
            step takes.
        checkpointed: of a whole step with activation_checkpointing, at its peak, in float32 and
            with the native kernel; None where nobody can tell.
        not_covered: what of this run these figures leave out, a phrase each.
    """

    state: int
    checkpointed: int | None
    not_covered: tuple[str, ...]


@dataclass(frozen=True)
class Operations:
    """Floating point operations of the whole run, on all devices.

    Attributes:
        paper: of forward and backward passes by the paper's formula, three times a forward pass.
        paper_causal: the same without attention's pairs in the future.
        executed: as this package executes them, see `hyena.model.passes`: blocks once more with
            activation_checkpointing, and some of their parts yet once where these go in pieces.
        executed_causal: the same without attention's pairs in the future.
        evaluation: of the passes over validation windows, as executed.
    """

    paper: float
    paper_causal: float
    executed: float
    executed_causal: float
    evaluation: float


@dataclass(frozen=True)
class TrainingText:
    """The text of a run.

    Attributes:
        tokens: of the training split.
        epochs: how often the run goes through its windows.
    """

    tokens: int
    epochs: float


@dataclass(frozen=True)
class RunPlan:
    """What is known of a run without running it.

    Attributes:
        parameters: P, tied ones once.
        steps: updates.
        layout: of the processes, on all machines.
        accumulate: micro batches of each device in a step.
        rows: B; of those that processes share, each has a piece.
        length: L.
        tokens: trained on, in all.
        text: what there is to train on; None if the folder is not there.
        evaluations: micro batches that each device evaluates, in all.
        precision: as in `TrainConfig`.
        memory: of a step.
        operations: of the run.
        training: forward and backward passes of one micro batch on one device.
        forward: a forward pass of one micro batch on one device.
    """

    parameters: int
    steps: int
    layout: Layout
    accumulate: int
    rows: int
    length: int
    tokens: int
    text: TrainingText | None
    evaluations: int
    precision: Precision
    memory: StepMemory
    operations: Operations
    training: Work
    forward: Work


@dataclass(frozen=True)
class RunTime:
    """How long a run takes, in seconds.

    Attributes:
        tokens_per_second: while it trains, on all devices together.
        step: one update.
        training: all updates.
        evaluation: all evaluations.
        total: training and evaluation; not reading, writing and what devices tell each other.
    """

    tokens_per_second: float
    step: float
    training: float
    evaluation: float
    total: float


def plan_run(config: TrainConfig) -> RunPlan:
    """What a run of `hyena.training.train` will take. Makes no weights and reads no text.

    Raises: ValueError as `hyena.training.train` of a configuration that cannot work, or data of
        another vocabulary or too short; FileNotFoundError if the folder of the data is there but
        holds none.
    """
    config = _of_one_length(resolved(config))
    check_config(config)
    model = planned_model(config)
    parameter_groups(model, config.optimizer)  # which refuses what the run would
    length, layout = config.window(), config.layout()
    rows = config.batch // (layout.groups * config.accumulate)
    every, steps = config.evaluation.every, config.steps
    times = steps // every + (steps % every > 0) if every else 0
    counted = flops(config.model, length, rows)
    step, forward = step_flops(model, length, rows), counted.executed
    micro = layout.groups * config.accumulate * steps
    evaluations = times * config.evaluation.batches
    return RunPlan(
        parameters=model.parameter_count(),
        steps=steps,
        layout=layout,
        accumulate=config.accumulate,
        rows=rows,
        length=length,
        tokens=steps * config.batch * length,
        text=_text(config, length),
        evaluations=evaluations,
        precision=config.precision,
        memory=_memory(model, config, layout, rows, length),
        operations=Operations(
            paper=micro * 3 * counted.paper.total,
            paper_causal=micro * 3 * counted.paper.causal,
            executed=micro * step.total,
            executed_causal=micro * step.causal,
            evaluation=layout.groups * evaluations * forward.total,
        ),
        training=_work(step, layout.context),
        forward=_work(forward, layout.context),
    )


def planned_model(config: TrainConfig) -> LanguageModel:
    """The model of a run, without weights. Raises: as `hyena.training.train`."""
    config = resolved(config)
    model = LanguageModel(config.model, device="meta")
    model.working_memory = config.working_memory
    model.activation_checkpointing = config.activation_checkpointing
    if config.precision == "64":
        model.double()
    freeze(model, several(config.freeze))
    return model


def _of_one_length(config: TrainConfig) -> TrainConfig:
    if config.task != LANGUAGE_MODELING:
        raise ValueError(
            f"task: a plan is of windows of text, but the task is {config.task}; to see what a "
            "step takes, train a few with --stop_after"
        )
    if config.lengths:
        raise ValueError(
            "lengths: a plan is of one length; plan each with --lengths '[]', its --length, its "
            "--steps, and the --batch that gives as many tokens"
        )
    return config


def time_at(plan: RunPlan, speed: Speed) -> RunTime:
    """The time of a run whose devices are each as fast as the one that was measured."""
    micro = speed.seconds * plan.rows / plan.layout.context / speed.rows
    return _time(plan, plan.accumulate * micro, micro * plan.forward.total / plan.training.total)


def time_on(plan: RunPlan, hardware: Hardware, utilisation: float = UTILISATION) -> RunTime:
    """The time of a run on accelerators of one kind, by their makers' figures.

    Products of matrices go at the peak of the run's precision, all else at that of float32, both
    times ``utilisation``; an update goes at the bandwidth of the memory.

    Raises: ValueError if no peak is known for the run's precision, or utilisation is no share.
    """
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation: expected a share, above 0 up to 1, got {utilisation}")
    if plan.precision == "64" or (plan.precision == "32" and hardware.fp32 is None):
        raise ValueError(
            f"hardware {hardware.name} has no known peak of float{plan.precision}, which the "
            "run's precision asks for; try precision bf16-mixed"
        )
    slow = hardware.bf16 if hardware.fp32 is None else hardware.fp32
    fast = hardware.bf16 if plan.precision == "bf16-mixed" else slow

    def seconds(work: Work) -> float:
        return (work.products / fast + work.other / slow) / utilisation

    update = _UPDATE_BYTES * plan.parameters / plan.layout.shard / hardware.bandwidth
    return _time(plan, plan.accumulate * seconds(plan.training) + update, seconds(plan.forward))


def _time(plan: RunPlan, step: float, forward: float) -> RunTime:
    training, evaluation = plan.steps * step, plan.evaluations * forward
    return RunTime(plan.tokens / training, step, training, evaluation, training + evaluation)


def _work(counted: ModelFlops, processes: int) -> Work:
    """Of each of so many processes that share the rows; what all channels share is made on each."""
    parts = [part for layer in counted.layers for part in layer.parts.items()]
    products = sum(count for name, count in parts if name in _PRODUCTS)
    other = sum(count for name, count in parts if name not in _PRODUCTS)
    shared = sum(layer.shared for layer in counted.layers)
    return Work((products + counted.head) / processes, shared + (other - shared) / processes)


def _memory(
    model: LanguageModel, config: TrainConfig, layout: Layout, rows: int, length: int
) -> StepMemory:
    state = cost.kept_bytes(model, layout.shard) + cost.gathered_bytes(model, layout.shard)
    if layout.processes > layout.shard == 1:  # DistributedDataParallel, whose gradients travel
        state += sum(p.nbytes for p in model.parameters() if p.requires_grad)  # in a copy
    if not reckons(model):
        layers = layers_in_words(config.model)
        layers += ", block-causal" if config.model.block_causal else ""
        gap = (
            "all but weights, gradients and moments: layers are reckoned where all are Hyena "
            f"operators that are not block-causal, and these are {layers}"
        )
        return StepMemory(state, None, (gap,))
    gaps = []
    if not config.activation_checkpointing:
        gaps.append("what blocks keep for the backward pass without activation_checkpointing")
    if config.precision == "64":
        gaps.append("transforms in float64, which the native kernel has not")
    if config.precision == "bf16-mixed":
        gaps.append("autocast: this is of float32; on a GPU layers take inputs whole under it")
    activations = activation_bytes(model, length, rows, processes=layout.context)
    return StepMemory(state, state + activations, tuple(gaps))


def _text(config: TrainConfig, length: int) -> TrainingText | None:
    if not (Path(config.data).exists() or is_prepared(config.data)):
        return None
    tokens = open_tokens(config.data, "train", verify=False)
    tokens.check_vocabulary(config.model.vocab_size)
    windows = WindowSampler(tokens, length, config.batch, config.seed).windows_per_epoch
    return TrainingText(len(tokens), config.steps * config.batch / windows)
