"""What a run that goes on may differ in from the one that it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hyena.files.records import differences, flatten, to_plain
from hyena.training.config import TrainConfig

# A resumed run may differ from the interrupted one in these fields: they choose where and for how
# long it runs and what it writes, not which weights it arrives at. `data` may move, since its
# content is compared through a fingerprint.
FREE_ON_RESUME = frozenset(
    {
        "data",
        "out",
        "labels.validation",
        "resume",
        "stop_after",
        "accelerator",
        "devices",
        "num_nodes",
        "shard",
        "context",
        "timeout",
        "activation_checkpointing",
        "working_memory",
        "kept_memory",
        "log_every",
        "tensorboard",
        "evaluation.every",
        "checkpoint.every",
        "checkpoint.keep",
        "checkpoint.best",
        "checkpoint.sharded",
    }
)


def continued(
    saved: dict[str, Any], config: TrainConfig, checkpoint: Path, step: int
) -> TrainConfig:
    """The configuration with which a run goes on from a checkpoint: the one asked for.

    If all its steps are done, it may ask for more. The schedule ends where it did all the same: the
    steps that were done had their rates from it.

    Args:
        saved: the plain configuration in the checkpoint.
        config: the configuration asked for now.
        checkpoint: for the message.
        step: finished steps.

    Raises: ValueError naming each other field that differs.
    """
    default = TrainConfig(data=config.data, out=config.out)
    before = {**flatten(to_plain(default)), **flatten(saved)}
    had, end = before["steps"], before["schedule.steps"]
    more = isinstance(had, int) and config.steps > had
    longer = more and step >= had
    free = FREE_ON_RESUME | ({"steps"} if longer else set())
    stays = had if end is None else end
    if config.schedule.steps in (None, stays):
        steps = stays if longer else end
        config = replace(config, schedule=replace(config.schedule, steps=steps))
        free |= {"schedule.steps"}
    changed = differences(saved, to_plain(config), default, free)
    if changed:
        wait = f"; more steps are given when the {had} are done" if more and not longer else ""
        raise ValueError(
            f"cannot resume from {checkpoint} with another configuration: "
            f"{'; '.join(changed)}. Use the old values, or start a new run in another folder{wait}"
        )
    return config
