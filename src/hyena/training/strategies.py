"""A run on many accelerators, reckoned for each way to share it: memory, bytes sent, and time.

`hyena.distributed.cost` reckons what is sent, ``docs/distributed.md`` has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hyena.distributed import cost
from hyena.model import LanguageModel
from hyena.model.memory import activation_bytes, reckons
from hyena.training.config import TrainConfig
from hyena.training.hardware import Hardware
from hyena.training.layout import Layout
from hyena.training.limits import check_least, check_positive
from hyena.training.plan import RunPlan, plan_run, planned_model, time_on, trained_bytes


@dataclass(frozen=True)
class Cluster:
    """Accelerators of one kind.

    Attributes:
        hardware: of which kind.
        gpus: how many.
        per_machine: how many of them a machine has.
        network: bytes a second that each sends to other machines.

    Raises: ValueError unless they are whole machines, or less than one.
    """

    hardware: Hardware
    gpus: int
    per_machine: int
    network: float

    def __post_init__(self) -> None:
        check_least(self, {"gpus": 1, "per_machine": 1})
        check_positive(self, "network")
        if self.gpus > self.per_machine and self.gpus % self.per_machine:
            raise ValueError(
                f"gpus: expected whole machines of {self.per_machine}, got {self.gpus}; give a "
                "multiple, or say with per_machine how many each has"
            )

    @property
    def together(self) -> int:
        """Accelerators of a machine."""
        return min(self.gpus, self.per_machine)

    def speed(self, traffic: cost.Traffic) -> float:
        """Bytes a second at which each of the processes sends.

        A ring over machines leaves and enters each of them once for every process that it has
        there, over as many networks; what each sends to each other one leaves by its own.
        """
        if traffic.processes * traffic.apart <= self.together:
            return self.hardware.link
        within = max(1, self.together // traffic.apart) if traffic.ring else 1
        return min(self.hardware.link, within * self.network)


@dataclass(frozen=True)
class Shared:
    """A run as it is shared in one way.

    Attributes:
        name: of the way.
        layout: of the processes.
        rows: of a micro batch on one accelerator; with ``context`` a piece of each.
        micro_batches: of a step.
        state: bytes of weights, gradients and moments on each, and of what is whole meanwhile.
        memory: bytes of a step with activation_checkpointing on each; None where nobody can tell.
        sent: bytes that each sends in a step.
        computing: seconds of a step.
        sending: seconds of a step, if nothing is computed meanwhile.
        why_not: why the run cannot be shared so; the figures are 0 then.
    """

    name: str
    layout: Layout
    rows: int = 0
    micro_batches: int = 0
    state: int = 0
    memory: int | None = None
    sent: float = 0.0
    computing: float = 0.0
    sending: float = 0.0
    why_not: str = ""

    @property
    def step(self) -> float:
        """Seconds of a step of which no part goes on beside another."""
        return self.computing + self.sending


def ways(cluster: Cluster) -> dict[str, Layout]:
    """The ways to share a run that are reckoned.

    Whole parameters on each (data); in parts over all (fsdp); in parts over each machine, and
    whole on each machine (hybrid); rows cut over each machine, parameters in parts over all
    (context).
    """
    gpus, together = cluster.gpus, cluster.together
    return {
        "data": Layout(gpus),
        "fsdp": Layout(gpus, shard=gpus),
        "hybrid": Layout(gpus, shard=together),
        "context": Layout(gpus, shard=gpus, context=together),
    }


def plan_ways(config: TrainConfig, cluster: Cluster, utilisation: float) -> list[Shared]:
    """The run of a configuration, shared in each of `ways`.

    Its micro batches have as many rows as the configuration's, or fewer where the accelerators have
    fewer in a step.

    Raises: ValueError as `hyena.training.plan.plan_run` and `time_on`.
    """
    whole = plan_run(replace(config, devices=1, num_nodes=1))
    return [
        _shared(config, whole, name, layout, cluster, utilisation)
        for name, layout in ways(cluster).items()
    ]


def _shared(
    config: TrainConfig,
    whole: RunPlan,
    name: str,
    layout: Layout,
    cluster: Cluster,
    utilisation: float,
) -> Shared:
    groups, length = layout.groups, whole.length
    if config.batch % groups:
        few = f"the {config.batch} rows of a step cannot be shared by {groups}; change batch"
        return Shared(name, layout, why_not=few)
    own = config.batch // groups
    rows = max(n for n in range(1, min(own, whole.rows) + 1) if own % n == 0)
    micro_batches = own // rows
    plan = plan_run(replace(config, devices=groups, num_nodes=1, accumulate=micro_batches))
    model = planned_model(config)
    try:
        traffic = _traffic(config, model, layout, rows, length, micro_batches)
    except ValueError as error:  # of rows that cannot be cut
        return Shared(name, layout, why_not=str(error).removeprefix("ContextParallel: "))
    state = cost.kept_bytes(model, layout.shard) + cost.gathered_bytes(model, layout.shard)
    if layout.shard == 1:
        state += trained_bytes(model)  # the copy in which DistributedDataParallel sends gradients
    memory = None
    if reckons(model):
        memory = state + activation_bytes(model, length, rows, processes=layout.context)
    # An update is of the parts that are here; all else of a group is shared by those in it.
    parts = replace(plan, parameters=plan.parameters * layout.context // layout.shard)
    return Shared(
        name,
        layout,
        rows,
        micro_batches,
        state,
        memory,
        sum(each.bytes for each in traffic),
        time_on(parts, cluster.hardware, utilisation).step / layout.context,
        sum(each.bytes / cluster.speed(each) for each in traffic),
    )


def _traffic(
    config: TrainConfig,
    model: LanguageModel,
    layout: Layout,
    rows: int,
    length: int,
    micro_batches: int,
) -> list[cost.Traffic]:
    """All that a process sends in a step."""
    itemsize = 2 if config.precision == "bf16-mixed" else model.embedding.weight.itemsize
    pieces = cost.of_rows(
        model,
        context=layout.context,
        rows=rows,
        length=length,
        itemsize=itemsize,
        packed=not config.cross_documents,
    )
    shard, replicas = layout.shard, layout.replicas
    return [
        replace(pieces, bytes=micro_batches * pieces.bytes),
        *cost.of_parameters(model, shard=shard, replicas=replicas, micro_batches=micro_batches),
    ]
