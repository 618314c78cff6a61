"""The processes of a run.

A launcher such as torchrun or srun starts every process itself, and is left to it. Without one,
`launched` starts the missing processes of this machine, which do `hyena.training.run.work`, and
hands them the configuration through a pipe, so a run behaves the same from the command line, a
script, a notebook or a test. (Fabric's own launcher would run the whole command line once more in
every process, which only a command-line program survives.)
"""

from __future__ import annotations

import inspect
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from hyena.arguments import plural
from hyena.files.records import to_plain
from hyena.model import LanguageModel
from hyena.training.config import TrainConfig
from hyena.training.device import check_device, find_device
from hyena.training.layout import Layout
from hyena.training.processes import start

if TYPE_CHECKING:
    from lightning_fabric.fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy


@contextmanager
def launched(config: TrainConfig, ready: Callable[[], None]) -> Iterator[Fabric]:
    """All processes of the run, connected; this one's view of them is the value.

    At the end the processes wait for each other, the connection is closed, the environment and
    the number of threads are as before, and the workers started here are gone.

    Args:
        config: says where to run and how many processes there are.
        ready: called just before this process waits for the others to connect.

    Raises: ImportError if lightning-fabric is missing; RuntimeError if a worker stops; ValueError
        if the launcher started another number of processes than asked for, there is none for
        several machines, the accelerator is not there, or for float64 on MPS.
    """
    try:
        from lightning_fabric.fabric import Fabric
    except ImportError as error:
        raise ImportError("training needs lightning-fabric; pip install 'hyena[train]'") from error
    environment = dict(os.environ)
    threads = torch.get_num_threads()
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)  # it announces each process otherwise
    workers: list[_Worker] = []
    try:
        world = config.devices * config.num_nodes
        _check_launcher(world, config.num_nodes)
        check_device(config.precision, find_device(config.accelerator).type)
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=config.devices,
            num_nodes=config.num_nodes,
            strategy=_strategy(config.layout(), timedelta(seconds=config.timeout)),
            # Fabric's double precision rounds the model's output to float32; the model is
            # made float64 as a whole instead.
            precision="32" if config.precision == "64" else config.precision,
        )
        if world > 1 and not has_launcher():
            workers = _start_workers(config)
        for worker in workers:
            worker.wait_until_ready()
        ready()
        try:
            fabric.launch()
            yield fabric
            fabric.barrier()
        except RuntimeError as error:
            _blame_worker(workers, error)
            why = _of_another(error, config.timeout)
            if not why:
                raise
            raise RuntimeError(
                f"process {fabric.global_rank} of {world}: {why}; mend what it was, and go on from "
                "the newest checkpoint with --resume true"
            ) from error
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for worker in workers:
            worker.end()
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        torch.set_num_threads(threads)
        logger.setLevel(level)


def _strategy(layout: Layout, timeout: timedelta) -> Any:
    """Fabric's."""
    if layout.processes == 1:
        return "auto"
    return _data_parallel(timeout) if layout.shard == 1 else _in_parts(layout, timeout)


def _in_parts(layout: Layout, timeout: timedelta) -> ModelParallelStrategy:
    """Parameters in parts; over what processes is ours to say, whatever mesh Fabric makes."""
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

    from hyena.distributed import shard

    def parallelize(module: torch.nn.Module, mesh: DeviceMesh) -> torch.nn.Module:
        model = next(each for each in module.modules() if isinstance(each, LanguageModel))
        shard(model, parameter_mesh(layout, mesh.device_type))
        return module

    return ModelParallelStrategy(
        parallelize,
        data_parallel_size=layout.processes,
        tensor_parallel_size=1,
        timeout=timeout,
    )


def parameter_mesh(layout: Layout, device_type: str) -> DeviceMesh:
    """The processes by what they keep of each parameter."""
    if layout.replicas == 1:
        return init_device_mesh(device_type, (layout.shard,), mesh_dim_names=("shard",))
    sizes = layout.replicas, layout.shard
    return init_device_mesh(device_type, sizes, mesh_dim_names=("replicate", "shard"))


def row_mesh(layout: Layout, device_type: str) -> DeviceMesh:
    """The processes that share rows with this one."""
    sizes = layout.groups, layout.context
    return init_device_mesh(device_type, sizes, mesh_dim_names=("data", "context"))["context"]


def _data_parallel(timeout: timedelta) -> DDPStrategy:
    """Data parallel training that does not send buffers around in every forward: none changes."""
    from lightning_fabric.strategies.ddp import DDPStrategy

    # The option's name since torch 2.13, and the one before.
    known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: False}
    return DDPStrategy(timeout=timeout, **options)


def has_launcher() -> bool:
    """Whether something else starts the processes, such as torchrun."""
    return any(name in os.environ for name in ("LOCAL_RANK", "SLURM_NTASKS", "RANK"))


def is_first() -> bool:
    """Whether this is the first process of the run, as whoever started it says."""
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name]) == 0
    return all(int(os.environ.get(name, 0)) == 0 for name in ("LOCAL_RANK", "NODE_RANK"))


def _check_launcher(world: int, num_nodes: int) -> None:
    if num_nodes > 1 and not has_launcher():
        raise ValueError(
            f"num_nodes is {num_nodes}, but nothing has started the processes on the other "
            "machines; start the command with torchrun or srun on each of them"
        )
    started = os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS"))
    if has_launcher() and started is not None and int(started) != world:
        raise ValueError(
            f"the launcher started {started} {plural(int(started), 'process', 'processes')}, "
            f"but devices x num_nodes is {world}; make them equal"
        )


def _start_workers(config: TrainConfig) -> list[_Worker]:
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    cluster = LightningEnvironment()
    world = config.devices * config.num_nodes
    os.environ["MASTER_ADDR"] = cluster.main_address
    os.environ["MASTER_PORT"] = str(cluster.main_port)
    os.environ["NODE_RANK"] = str(cluster.node_rank())
    os.environ["WORLD_SIZE"] = str(world)
    os.environ["LOCAL_RANK"] = "0"
    return [_Worker(config, local_rank) for local_rank in range(1, config.devices)]


_GONE = "closed by peer", "Broken pipe", "reset by"
"""What gloo says of a process that has ended."""


def _of_another(error: RuntimeError, timeout: float) -> str:
    """What became of another process, if that is what an error is about; empty otherwise."""
    if any(word in str(error) for word in _GONE):
        return "another process of the run has ended, whose own message says why"
    if any(words in str(error) for words in ("Timed out waiting", "waiting for clients")):
        return f"another process did not answer for {timeout:g} s: it hangs, or is gone"
    return ""


def _blame_worker(workers: list[_Worker], error: RuntimeError) -> None:
    """When a worker stopped by itself, its message is the cause and ours only the echo."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        for worker in workers:
            if worker.process.poll():
                raise worker.stopped() from error
        if not any(word in str(error) for word in _GONE):
            return
        time.sleep(0.05)


class _Worker:
    """A process of this machine beside the first."""

    def __init__(self, config: TrainConfig, local_rank: int) -> None:
        self.local_rank = local_rank
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by end)
        self.process = start(
            "hyena.training.run.work",
            to_plain(config),
            stdout=subprocess.PIPE,
            stderr=self._output,
            environment={**os.environ, "LOCAL_RANK": str(local_rank)},
        )

    def wait_until_ready(self) -> None:
        """Waits until the worker is about to connect.

        Without this a worker that stops early would be waited for until the connection times out.

        Raises: RuntimeError if it stops before.
        """
        assert self.process.stdout is not None
        if not self.process.stdout.read(1):
            self.process.wait()
            raise self.stopped()

    def stopped(self) -> RuntimeError:
        """The error for a worker that stopped by itself, with the last line it wrote."""
        self._output.seek(0)
        lines = self._output.read().decode(errors="replace").splitlines()
        status = self.process.returncode
        silent = f"killed by signal {-status}" if status and status < 0 else f"exit status {status}"
        said = next((line for line in reversed(lines) if line.strip()), silent)
        return RuntimeError(f"process {self.local_rank} of the run stopped: {said}")

    def end(self) -> None:
        """Waits a moment for the worker to finish, then kills it."""
        try:
            self.process.communicate(timeout=10)  # and close the pipe: it need not finish anything
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
        self._output.close()
