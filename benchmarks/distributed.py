"""Rows that are cut over processes: the memory of a step of training, and the bytes that are sent.

    python benchmarks/distributed.py
    python benchmarks/distributed.py --quick                 # tiny models on two processes
    python benchmarks/distributed.py --only "order 3"        # rows with this in their names

"step" is a step of training at 1,000,002 tokens: 8 layers of width 256 over 16 tokens, blocks
recomputed, AdamW, float32, on one process and with the row cut over four of this machine. Each says
its peak of memory and its seconds; loss and gradients of the four are compared with those of the
one. Four processes take some 18 GiB together, and one 13.

"order 2" and "order 3" are forward passes of 2 layers of that width, of which the bytes are counted
that a process tells the collectives to send to others, for each token of its own and layer.

Processes talk over gloo. The threads are shared out among them, so that times say what one machine
does, and nothing of several. Results go to benchmarks/results/distributed_HARDWARE_DATE, or to
--out; a run that was interrupted goes on.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.utils._python_dispatch import TorchDispatchMode

from hyena import LanguageModel, ModelConfig
from hyena.bench import folder
from hyena.bench.goals import Goal, Measure, Measured, Results
from hyena.bench.memory import peak_of
from hyena.bench.reference import relative_error
from hyena.bench.report import bullets, figure, goal_rows, lines, not_measured
from hyena.bench.timing import Timing
from hyena.distributed import ContextParallel
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.machine import convolution, hardware, setting
from hyena.training import OptimizerConfig, adamw

GIB = 1 << 30  # bytes
TOKENS = 16
SHARE = 0.35  # of one process's memory, on four
APART = 1e-3  # relative L2 of the gradient that is furthest off
EXCESS = 1.05  # of the bytes that the long convolutions need


@dataclass(frozen=True)
class Case:
    """A model and a row, on several numbers of processes; on one it is not cut."""

    name: str
    length: int
    processes: tuple[int, ...]
    trains: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of the case's file."""
        return self.name.replace(" ", "-")

    @property
    def contenders(self) -> tuple[str, ...]:
        """The numbers of processes."""
        return tuple(map(str, self.processes))

    def __str__(self) -> str:
        return self.name


def cases(*, tiny: bool = False) -> list[Case]:
    """All rows."""
    sizes = {"width": 16 if tiny else 256, "vocab_size": TOKENS}
    several = (2,) if tiny else (2, 4)
    length = 302 if tiny else 1_000_002
    found = [Case("step", length, (1, several[-1]), True, {**sizes, "layers": 2 if tiny else 8})]
    for order in (2, 3):
        model = {**sizes, "layers": 2, "order": order}
        found.append(Case(f"order {order}", 512 * several[-1], several, model=model))
    return found


class Sent(TorchDispatchMode):
    """Counts the bytes that this process sends to others in exchanges of pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(op) == "_c10d_functional.all_to_all_single.default":
            sizes = list(args[2])
            del sizes[dist.get_rank()]
            self.bytes += sum(sizes) * args[0].itemsize
        return op(*args, **(kwargs or {}))


def work(case: Case, processes: int, rank: int, threads: int, place: Path) -> dict[str, Any]:
    """What one process finds: "seconds"; "peak" of its memory, bytes, and "loss" of a step, whose
    gradients the first process leaves in the place; or what it "sent" for a token and layer."""
    torch.set_num_threads(max(1, threads // processes))
    store = dist.FileStore(str(place / "store"), processes)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    context = None
    if processes > 1:
        context = ContextParallel(init_device_mesh("cpu", (processes,)))
    config = ModelConfig(**case.model, max_length=case.length)
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0))
    row = torch.randint(TOKENS, (1, case.length + 1), generator=torch.Generator().manual_seed(1))
    ids, targets = (x if context is None else context.piece(x) for x in (row[:, :-1], row[:, 1:]))
    if not case.trains:
        begin = perf_counter()
        with torch.no_grad(), Sent() as sent:
            model(ids, context=context)
        each = sent.bytes / (ids.shape[1] * len(model.blocks))
        return {"seconds": perf_counter() - begin, "sent": each}
    model.train().activation_checkpointing = True
    found: dict[str, Any] = {}

    def call() -> None:
        begin = perf_counter()
        found["loss"] = step(model, ids, targets, context)
        found["seconds"] = perf_counter() - begin

    peak = peak_of(call)
    if isinstance(peak, str):
        raise RuntimeError(peak)
    if rank == 0:
        torch.save({n: p.grad for n, p in model.named_parameters()}, place / "gradients.pt")
    return {**found, "peak": peak.process}


def step(
    model: LanguageModel, ids: Tensor, targets: Tensor, context: ContextParallel | None
) -> float:
    """A step of training on rows, or on pieces of them; the loss."""
    optimizer = adamw(model, OptimizerConfig())
    loss = model(ids, targets=targets, context=context)
    loss.backward()
    if context is not None:
        for parameter in model.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= context.processes
    optimizer.step()
    return float(loss.detach())


def measure(case: Case, _: Results | None = None, *, threads: int) -> folder.Result:
    """A case on all its numbers of processes.

    Returns: "row", the case; by number of processes "times", and "peak", the largest of a process,
        or "sent", likewise; of a step "apart", relative: loss and the gradient that is furthest
        from one process's, and which that is; or "failed", one line.
    """
    row = {**asdict(case), "contenders": case.contenders}
    record: folder.Result = {"row": row, "skipped": {}, "times": {}, "peak": {}, "sent": {}}
    gradients, losses = {}, {}
    for processes in case.processes:
        name = str(processes)
        with TemporaryDirectory() as place:
            each = run(case, processes, threads, Path(place))
            if isinstance(each, str):
                return {**record, "failed": f"{processes} processes: {each}"}
            if case.trains:
                gradients[name] = torch.load(Path(place, "gradients.pt"))
        seconds = max(found["seconds"] for found in each)
        record["times"][name] = Timing(seconds, seconds, seconds, 1, 1)._asdict()
        for what in ("peak", "sent"):
            if what in each[0]:
                record[what][name] = max(found[what] for found in each)
        losses[name] = each[0].get("loss")
    if case.trains:
        one, other = case.contenders
        record["apart"] = {
            "loss": abs(losses[other] / losses[one] - 1),
            **furthest(gradients[other], gradients[one]),
        }
    return record


def run(case: Case, processes: int, threads: int, place: Path) -> list[dict[str, Any]] | str:
    """What each process finds; why there is nothing, one line."""
    request = {"case": asdict(case), "processes": processes, "threads": threads}
    each = []
    try:
        for rank in range(processes):
            words = ["--work", json.dumps({**request, "rank": rank}), str(place)]
            with (place / f"{rank}.txt").open("w") as said:
                each.append(
                    subprocess.Popen(
                        [sys.executable, __file__, *words], stdout=subprocess.DEVNULL, stderr=said
                    )
                )
        codes = [process.wait() for process in each]
    finally:
        for process in each:
            process.kill()
            process.wait()
    for rank, code in enumerate(codes):
        if code < 0:
            return f"process {rank} was killed by signal {-code}, perhaps for want of memory"
        if code > 0:
            last = [line for line in (place / f"{rank}.txt").read_text().split("\n") if line]
            return f"process {rank}: {last[-1].removeprefix(f'[rank{rank}]: ') if last else code}"
    return [json.loads((place / f"{rank}.json").read_text()) for rank in range(processes)]


def furthest(got: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Any]:
    """Of the gradients, the one with the largest relative L2 error, and which it is."""
    errors = {n: relative_error(got[n], g) for n, g in expected.items() if g is not None}
    name = max(errors, key=errors.__getitem__)
    return {"gradient": errors[name], "name": name}


def goals(every: Sequence[Case]) -> list[Goal]:
    """What the rows are to reach, in order."""
    found: list[Goal] = []

    def at_most(number: int, what: str, where: str, target: float, measure: Measure) -> None:
        found.append(Goal(number, what, where, target, False, measure))

    for case in every:
        model, few = case.model, case.processes[0]
        if case.trains:
            most = case.processes[-1]
            what = f"{model['layers']} layers × {model['width']}, a step, {{}}"
            where = f"L={case.length}, {most} processes against {few}"
            at_most(1, what.format("peak of a process"), where, SHARE, share(case))
            at_most(2, what.format("the gradient furthest off, relative"), where, APART, apart)
            continue
        for processes in case.processes:
            what = f"bytes sent for a token and layer, order {model['order']}"
            where = f"{processes} processes, against 2·(N−1)·D·4·(P−1)/P"
            at_most(3, what, where, EXCESS, excess(case, processes))
    return found


def share(case: Case) -> Measure:
    """The memory of a process of many against that of one alone."""

    def measure(results: Results) -> Measured | None:
        peak = results.get(case.key, {}).get("peak", {})
        one, other = case.contenders
        return Measured(peak[other] / peak[one]) if {one, other} <= set(peak) else None

    return measure


def apart(results: Results) -> Measured | None:
    """How far the gradient of a step is off that is furthest."""
    found = results.get("step", {}).get("apart")
    return None if found is None else Measured(found["gradient"], note=found["name"])


def excess(case: Case, processes: int) -> Measure:
    """Bytes that are sent against those that the long convolutions need."""

    def measure(results: Results) -> Measured | None:
        sent = results.get(case.key, {}).get("sent", {}).get(str(processes))
        return None if sent is None else Measured(sent / needed(case.model, processes))

    return measure


def needed(model: Mapping[str, Any], processes: int) -> float:
    """Bytes for a token and layer: to the channels of the others and back, in float32."""
    return 2 * (model["order"] - 1) * model["width"] * 4 * (processes - 1) / processes


def report(results: Results, where: Mapping[str, Any], every: Sequence[Case]) -> str:
    """The whole report as Markdown."""
    notes = [
        *(f"{name}: {value}" for name, value in where.items()),
        "s: of a step or a pass, the first of each process; of the slowest process",
        "peak: of the process that takes most, with what Python and PyTorch take",
        "sent: bytes that a process sends to others, for a token of its own and layer",
        *(
            f"loss against one process, relative: {figure(r['apart']['loss'])}"
            for r in results.values()
            if "apart" in r
        ),
    ]
    rows = [
        {
            "case": result["row"]["name"],
            "tokens": f"{result['row']['length']:,}",
            "processes": name,
            "s": figure(its["median"]),
            "peak, GiB": figure(result["peak"][name] / GIB) if result["peak"] else "",
            "sent, bytes": figure(result["sent"][name]) if result["sent"] else "",
        }
        for result in results.values()
        if "failed" not in result
        for name, its in result["times"].items()
    ]
    parts = ["# Rows cut over processes", bullets(notes)]
    parts += ["## Goals", table(goal_rows(goals(every), results, {}))]
    if rows:
        parts += ["## Figures", table(lines(rows))]
    return "\n\n".join([*parts, *not_measured(results)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a case could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--threads", type=int, help="default: PyTorch's number")
    parser.add_argument("--only", default="", help="rows with this in their names")
    parser.add_argument("--quick", action="store_true", help="tiny models on two processes")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)  # what `run` asks a process for
    asked = parser.parse_args(arguments)
    if asked.work is not None:
        request, place = json.loads(asked.work[0]), Path(asked.work[1])
        rank, case = request["rank"], Case(**request.pop("case"))
        write_text(place / f"{rank}.json", json.dumps(work(case, **request, place=place)))
        dist.barrier()
        dist.destroy_process_group()
        os._exit(0)  # without Python's clean-up, in which gloo's threads may abort
    if asked.threads is not None and asked.threads < 1:
        parser.error(f"--threads: expected at least 1, got {asked.threads}")
    every = cases(tiny=asked.quick)
    chosen = [case for case in every if asked.only in str(case)]
    if not chosen:
        names = ", ".join(map(str, every))
        parser.error(f"--only: no row has {asked.only!r} in its name; they are {names}")
    try:
        where = {**setting(), **convolution(), "threads": asked.threads or torch.get_num_threads()}
        del where["command"]  # of which a run that goes on may have another
        name = f"distributed{'-quick' * asked.quick}_{hardware()}"
        out = asked.out or Path("benchmarks/results", f"{name}_{datetime.date.today():%Y-%m-%d}")
        if asked.fresh:
            folder.clear(out)
        folder.open_folder(out, where, again="--fresh")
        results = folder.run(chosen, out, partial(measure, threads=where["threads"]))
    except (OSError, ValueError) as problem:
        sys.exit(f"distributed: {problem}")
    results = {case.key: results[case.key] for case in every if case.key in results}
    folder.write_json(out / "results.json", {"setting": where, "rows": results})
    text = report(results, where, every)
    write_text(out / "table.md", text)
    print(text)
    return int(any("failed" in results[case.key] for case in chosen))


if __name__ == "__main__":
    sys.exit(main())
