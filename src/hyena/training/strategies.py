"""A run on many accelerators, reckoned for each way to share it: memory, bytes sent, and time.

`hyena.distributed.cost` reckons what is sent, ``docs/distributed.md`` has the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hyena.distributed import cost
from hyena.training.config import TrainConfig
from hyena.training.hardware import Hardware
from hyena.training.layout import Layout
from hyena.training.limits import check_least, check_positive
from hyena.training.plan import RunPlan, plan_run, planned_model, time_on


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
        plan: of the run; None of one that cannot be shared so.
        why_not: why it cannot; empty if it can.
        sent: bytes that each sends in a step.
        computing: seconds of a step.
        sending: seconds of a step, if nothing is computed meanwhile.
    """

    name: str
    layout: Layout
    plan: RunPlan | None = None
    why_not: str = ""
    sent: float = 0.0
    computing: float = 0.0
    sending: float = 0.0

    @property
    def step(self) -> float:
        """Seconds of a step of which no part goes on beside another."""
        return self.computing + self.sending


def ways(cluster: Cluster) -> dict[str, Layout]:
    """The ways to share a run that are reckoned.

    Whole parameters on each (data); in parts over all (fsdp); in parts over each machine, and
    whole on each machine (hybrid); rows cut over each machine, parameters in parts over all
    (context). One that is the same as another, such as hybrid on a machine alone, is left out.
    """
    gpus, together = cluster.gpus, cluster.together
    found = {
        "data": Layout(gpus),
        "fsdp": Layout(gpus, shard=gpus),
        "hybrid": Layout(gpus, shard=together),
        "context": Layout(gpus, shard=gpus, context=together),
    }
    first = {layout: name for name, layout in reversed(found.items())}
    return {name: layout for name, layout in found.items() if first[layout] == name}


def plan_ways(config: TrainConfig, cluster: Cluster, utilisation: float) -> list[Shared]:
    """The run of a configuration, shared in each of `ways`.

    Its micro batches have as many rows as the configuration's, or fewer where the accelerators have
    fewer in a step.

    Raises: ValueError as `hyena.training.plan.plan_run` and `time_on`.
    """
    most = config.batch // (config.layout().groups * config.accumulate)
    return [
        _shared(config, most, name, layout, cluster, utilisation)
        for name, layout in ways(cluster).items()
    ]


def _shared(
    config: TrainConfig,
    most: int,
    name: str,
    layout: Layout,
    cluster: Cluster,
    utilisation: float,
) -> Shared:
    """Args: most: rows of a micro batch."""
    if config.batch % layout.groups:
        rows = f"the {config.batch} rows of a step cannot be shared by {layout.groups}"
        return Shared(name, layout, why_not=f"{rows}; change batch")
    own = config.batch // layout.groups
    fits = max(n for n in range(1, min(own, most) + 1) if own % n == 0)
    config = replace(
        config,
        devices=layout.processes,
        num_nodes=1,
        shard=layout.shard,
        context=layout.context,
        accumulate=own // fits,
    )
    plan = plan_run(config)
    try:
        traffic = _traffic(config, plan)
    except ValueError as error:  # of rows that cannot be cut
        return Shared(name, layout, why_not=str(error).removeprefix("ContextParallel: "))
    return Shared(
        name,
        layout,
        plan,
        sent=sum(each.bytes for each in traffic),
        computing=time_on(plan, cluster.hardware, utilisation).step,
        sending=sum(each.bytes / cluster.speed(each) for each in traffic),
    )


def _traffic(config: TrainConfig, plan: RunPlan) -> list[cost.Traffic]:
    """All that a process sends in a step."""
    model, layout = planned_model(config), plan.layout
    itemsize = 2 if config.precision == "bf16-mixed" else model.embedding.weight.itemsize
    pieces = cost.of_rows(
        model,
        context=layout.context,
        rows=plan.rows,
        length=plan.length,
        itemsize=itemsize,
        packed=not config.cross_documents,
    )
    parameters = cost.of_parameters(
        model,
        shard=layout.shard,
        replicas=layout.replicas,
        micro_batches=plan.accumulate,
    )
    return [replace(pieces, bytes=plan.accumulate * pieces.bytes), *parameters]
