"""`hyena plan`: what a training run will take, before it starts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hyena.bench.memory import too_large
from hyena.cli.model_facts import Row, aligned, size
from hyena.files.records import to_plain
from hyena.training import TrainConfig
from hyena.training.device import find_device
from hyena.training.hardware import Hardware, find_hardware
from hyena.training.limits import check_share
from hyena.training.plan import UTILISATION, RunPlan, RunTime, plan_run, time_at, time_on
from hyena.training.speed import Speed, measure_speed
from hyena.training.strategies import Cluster, Shared, plan_ways

POSITIONAL = "config"


_SIZES = "shard", "context", "rows", "micro batches", "memory", "sent"
_SPANS = "computing", "sending", "step"


@dataclass
class Config(TrainConfig):
    """A run of `hyena train`, and what to say of it."""

    measure: bool = True
    """Measure how fast this machine trains, in a few steps on random tokens."""
    gpu: str | None = None
    """Accelerator to reckon the time on too, such as H100-SXM; an unknown name gets near ones or
    the list of all. There are as many of it as `devices`."""
    gpus: int | None = None
    """Say as well what the run takes on so many of it, for each way to share it."""
    per_machine: int = 8
    """Of `gpus`, how many a machine has."""
    network: float = 400.0
    """Gbit/s that each of `gpus` sends to other machines."""
    utilisation: float = UTILISATION
    """Share of its peak that an accelerator is taken to reach."""
    json: bool = False
    """Print JSON instead of text."""

    def __post_init__(self) -> None:
        check_share(self, "utilisation")
        if self.gpus is not None and self.gpu is None:
            raise ValueError(
                f"gpus: {self.gpus} were asked for, but not of which kind; add --gpu, such as h100"
            )
        self.cluster()

    def cluster(self) -> Cluster | None:
        """What `gpus` says; None if it was not asked for."""
        hardware = None if self.gpu is None else find_hardware(self.gpu)
        if self.gpus is None or hardware is None:
            return None
        return Cluster(hardware, self.gpus, self.per_machine, self.network * 1e9 / 8)


@dataclass(frozen=True)
class Estimate:
    """What is printed.

    Attributes:
        plan: by arithmetic alone.
        speed: of this machine; None if it was not measured.
        here: the time on this machine, with as many devices like its own as the run has.
        why_not: what kept this machine from being measured; empty if nothing did.
        hardware: the accelerator that was asked for.
        utilisation: share of its peak that it is taken to reach.
        there: the time on it.
        shared: the ways to share the run, if `gpus` was given.
    """

    plan: RunPlan
    speed: Speed | None
    here: RunTime | None
    why_not: str
    hardware: Hardware | None
    utilisation: float
    there: RunTime | None
    shared: list[Shared]


def run(config: Config) -> None:
    """Reckons, measures and prints."""
    plan = plan_run(config)
    hardware = None if config.gpu is None else find_hardware(config.gpu)
    there = None if hardware is None else time_on(plan, hardware, config.utilisation)
    speed, why_not = _measured(config, plan) if config.measure else (None, "measure is false")
    here = None if speed is None else time_at(plan, speed)
    cluster = config.cluster()
    shared = [] if cluster is None else plan_ways(config, cluster, config.utilisation)
    found = Estimate(plan, speed, here, why_not, hardware, config.utilisation, there, shared)
    if config.json:
        print(json.dumps(to_plain(found), indent=1))
        return
    print(described(config, found))
    if cluster is not None:
        print(f"\n{_shared(cluster, shared)}")


def _measured(config: Config, plan: RunPlan) -> tuple[Speed | None, str]:
    """This machine's speed, or why there is none."""
    device = find_device(config.accelerator).type
    if device != "mps" and (why := too_large(plan.memory.state, device)):
        return None, f"a step {why}"
    try:
        return measure_speed(config), ""
    except torch.OutOfMemoryError:
        return None, f"the memory of {device} does not suffice for a step"


def described(config: TrainConfig, found: Estimate) -> str:
    """The estimate as aligned text, one block a subject."""
    plan = found.plan
    return "\n\n".join(
        [
            _run(config, plan),
            _memory(plan, found.hardware),
            _operations(config, plan),
            _time(found),
        ]
    )


def _run(config: TrainConfig, plan: RunPlan) -> str:
    piece = -(-plan.length // plan.layout.context)
    rows: list[Row] = [
        ("mixers", config.model.mixers),
        ("parameters", f"{plan.parameters:,}"),
        ("steps", f"{plan.steps:,}"),
        ("tokens in a step", f"{config.batch * plan.length:,}"),
        ("tokens", f"{plan.tokens:,}"),
        ("devices", f"{plan.layout.processes:,}"),
        ("rows × tokens at a time, on each", f"{plan.rows:,} × {piece:,}"),
    ]
    if plan.text is None:
        rows.append(("epochs", f"unknown: there is no {config.data} yet"))
    else:
        rows.append(("epochs", f"{plan.text.epochs:,.2f} of {plan.text.tokens:,} tokens"))
    return "\n".join(["run", *aligned(rows, "<")])


def _memory(plan: RunPlan, hardware: Hardware | None) -> str:
    memory = plan.memory
    rows: list[Row] = [("weights, gradients and AdamW's moments", size(memory.state))]
    if memory.checkpointed is not None:
        rows.append(("step, with activation_checkpointing", size(memory.checkpointed)))
    if hardware is not None:
        rows.append((hardware.name, size(hardware.memory)))
    title = "memory of a step on one device, beside Python and PyTorch (about 0.3 GiB)"
    lines = [title, *aligned(rows)]
    lines += [f"  not covered: {gap}" for gap in memory.not_covered]
    if hardware is not None and memory.state > hardware.memory:
        lines.append(f"  This run does not fit on {hardware.name}.")
    elif hardware is not None:
        lines.append("  Reckoned with the CPU's kernel; PyTorch's transforms on a GPU take more.")
    return "\n".join(lines)


def _operations(config: TrainConfig, plan: RunPlan) -> str:
    counted = plan.operations
    rows: list[Row] = [
        ("", "paper's formula", "executed"),
        ("training", f"{counted.paper:.3e}", f"{counted.executed:.3e}"),
    ]
    if "attention" in config.model.layer_mixers():
        causal = f"{counted.paper_causal:.3e}", f"{counted.executed_causal:.3e}"
        rows.append(("training without the pairs in the future", *causal))
    rows.append(("evaluation", "", f"{counted.evaluation:.3e}"))
    return "\n".join(["operations of the run", *aligned(rows)])


def _time(found: Estimate) -> str:
    plan, speed, hardware = found.plan, found.speed, found.hardware
    rows: list[Row] = [("", "tokens/s", "step", "training", "evaluation", "in all")]
    notes = []
    many = f"{plan.layout.processes:,} × " if plan.layout.processes > 1 else ""
    if speed is not None and found.here is not None:
        rows.append((f"{many}this machine's {speed.device}", *_times(found.here)))
        measured = f"Measured here: {speed.rows:,} × {speed.length:,} random tokens at a time"
        notes.append(f"{measured}, {speed.seconds:.3g} s with an update.")
        if speed.rows < plan.rows:
            notes.append(f"A run takes {plan.rows:,} rows at a time, which may be quicker a row.")
    else:
        notes.append(f"Not measured here: {found.why_not}.")
    if hardware is not None and found.there is not None:
        rows.append((f"{many}{hardware.name}", *_times(found.there)))
        share = f"{100 * found.utilisation:.3g}% of its peak"
        notes += [
            f"{hardware.name}: an estimate from its maker's figures, at {share}. This package has",
            "been measured on no GPU, so that the share is a guess. Starting kernels takes most of",
            "the time of a small model, and is not counted.",
            f"Figures: {hardware.source}.",
        ]
        if hardware.note:
            notes.append(f"{hardware.note[0].upper()}{hardware.note[1:]}.")
    if plan.layout.processes > 1:
        notes.append("What the devices tell each other is not counted.")
    table = aligned(rows) if len(rows) > 1 else []
    return "\n".join(["time", *table, *(f"  {note}" for note in notes)])


def _shared(cluster: Cluster, shared: Sequence[Shared]) -> str:
    """The ways to share a run as a table, and why others are none."""
    rows: list[Row] = [("", *_SIZES, *_SPANS)]
    hardware, notes = cluster.hardware, []
    for way in shared:
        if way.plan is None:
            notes.append(f"{way.name}: {way.why_not}.")
            continue
        plan, memory = way.plan, way.plan.memory.checkpointed or way.plan.memory.state
        sizes = way.layout.shard, way.layout.context, plan.rows, plan.accumulate
        spans = map(_span, (way.computing, way.sending, way.step))
        rows.append((way.name, *map(str, sizes), size(memory), size(int(way.sent)), *spans))
        if memory > hardware.memory:
            notes.append(f"{way.name}: does not fit into {size(hardware.memory)}.")
    if any(way.plan is not None and way.plan.memory.checkpointed is None for way in shared):
        notes.append("Memory: without activations, which nobody can tell of these mixers.")
    else:
        notes.append("Memory: of each, with activation_checkpointing, in float32.")
    notes += [
        f"Sent: by each in a step. {hardware.link / 1e9:g} GB/s within a machine of "
        f"{cluster.together}, {cluster.network / 1e9:g} to others.",
        "Step: as if nothing was computed while something is sent. None of it was measured.",
    ]
    title = f"a step on {cluster.gpus:,} {hardware.name}, by the way it is shared"
    table = aligned(rows) if len(rows) > 1 else []
    return "\n".join([title, *table, *(f"  {note}" for note in notes)])


def _times(time: RunTime) -> tuple[str, ...]:
    spans = time.step, time.training, time.evaluation, time.total
    return f"{time.tokens_per_second:,.0f}", *map(_span, spans)


def _span(seconds: float) -> str:
    """A time in the unit in which it reads best."""
    for unit, long in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= 2 * long:
            return f"{seconds / long:,.1f} {unit}"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
