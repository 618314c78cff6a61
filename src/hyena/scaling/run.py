"""Running a scaling sweep: the plan and its hours, trials, and the grid of those that are chosen.

Each training is a process of its own, see `hyena.experiments.jobs`. It goes on from its newest
checkpoint, so that a sweep that is killed at any moment ends in the same figures, bit for bit,
when the same command is given again: on the same machine, threads, PyTorch and kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hyena.arguments import plural
from hyena.data import Manifest, read_manifest
from hyena.experiments.executors import Start, starter
from hyena.experiments.jobs import LOG, Running, SweepEnd, run_jobs
from hyena.files.folder import SCALING, locked, refuse_other
from hyena.files.records import to_plain
from hyena.scaling.config import ScalingConfig
from hyena.scaling.hours import (
    SPEEDS,
    Outlook,
    Place,
    Throughput,
    as_table,
    hours_of,
    place_of,
    read_speed,
    within_hours,
)
from hyena.scaling.plan import RUN, Cell, Speed, digest_of, make_plan, write_plan
from hyena.scaling.record import Result, choose, find_finished
from hyena.training.metrics import Report
from hyena.training.processes import StopRequest, stop_on_signal


def run_scaling(
    config: ScalingConfig,
    say: Callable[[str], None] = print,
    progress: Report | None = None,
) -> SweepEnd:
    """Trains and measures what is not finished yet.

    Measures the speed of each family and size first, prints how many hours the sweep takes, and
    leaves out what does not fit into those that it has. Speeds are kept, so that the next call
    leaves out the same. A training that fails is reported and the others go on; the next call tries
    it again. The first SIGINT or SIGTERM ends the call as soon as the running trainings have
    written checkpoints; the second one raises KeyboardInterrupt.

    Args:
        config: the sweep.
        say: is given the plan, and a line for each training.
        progress: called with the trainings of a phase that are done, and with their number in all.

    Returns: how many trainings are finished and how many failed.
    Raises: ValueError if an option does not fit, or the hours do not suffice for the smallest size;
        FileNotFoundError if the data are not there; FileExistsError if the folder is of another
        kind; RuntimeError if another sweep is using it, or a speed could not be measured; OSError
        if it cannot be written.
    """
    every_family = {family.name: 0 for family in config.families}
    cells = make_plan(config, every_family)  # which one is chosen makes no difference to the hours
    refuse_other(config.out, SCALING)
    with locked(config.out), stop_on_signal() as request:
        return _Sweep(config, cells, request, say, progress).run()


class _Sweep:
    """One call of `run_scaling`."""

    def __init__(
        self,
        config: ScalingConfig,
        cells: list[Cell],
        request: StopRequest,
        say: Callable[[str], None],
        progress: Report | None,
    ) -> None:
        self.config, self.cells, self.request = config, cells, request
        self.say, self.progress = say, progress
        self.manifest = read_manifest(config.data)
        self.start = starter(config.executor, config.job_options, config.out)
        self.speeds: list[Speed] = []

    def run(self) -> SweepEnd:
        outlook = self._outlook()
        if outlook is None or self.config.plan:
            return SweepEnd(0, 0, self.request.signal)
        trials = [cell for cell in outlook.cells if cell.phase == "tune"]
        self._write(outlook, self._best(_finished(trials)))  # an earlier call's stay in the table
        tuned = _Cells(self.config, self.start)
        end = self._run(tuned, trials)
        if end.signal:
            return end
        chosen = self._best(tuned.results)
        self._say_chosen(chosen, tuned.results)
        last = self._run(_Cells(self.config, self.start), self._write(outlook, chosen))
        return SweepEnd(end.finished + last.finished, end.failed + last.failed, last.signal)

    def _outlook(self) -> Outlook | None:
        """What fits into the hours, which is printed; None after a signal."""
        config, say = self.config, self.say
        speeds = self._speeds()
        if speeds is None:
            return None
        self.speeds = [Speed(*place, x.tokens_per_second) for place, x in speeds.items()]

        def hours(cell: Cell) -> float:
            return hours_of(cell, speeds[place_of(cell)], self.manifest)

        say(as_table(self.cells, speeds, hours))
        for size in self._cut():
            say(f"size {size}: budgets are cut to {config.most_epochs:g} epochs of the text")
        outlook = within_hours(self.cells, hours, config)
        for sentence in outlook.left_out:
            say(sentence)
        number = len(outlook.cells)
        beside = f", {config.jobs} side by side" if config.jobs > 1 else ""
        say(f"{number} {plural(number, 'training')}{beside}: {outlook.hours:.1f} h")
        return outlook

    def _speeds(self) -> dict[Place, Throughput] | None:
        """Of each family at each size; None after a signal."""
        places: dict[Place, Cell] = {}
        for cell in self.cells:
            if cell.phase == "grid":
                places.setdefault(place_of(cell), cell)
        measured = _Measured(self.config, self.manifest, self.start)
        end = run_jobs(
            measured,
            places.values(),
            total=len(places),
            at_once=1,
            request=self.request,
            say=self.say,
            what="speed",
        )
        if end.signal:
            return None
        for cell in places.values():
            if cell not in measured.results:
                raise RuntimeError(
                    f"the plan needs the speed of {cell.family} at {cell.size}, which could not be "
                    f"measured; see {measured.folder(cell) / LOG}"
                )
        return {place: measured.results[cell] for place, cell in places.items()}

    def _cut(self) -> list[str]:
        """The sizes at which the training text is too short for a budget."""
        most = self.config.most_epochs * self.manifest.splits["train"].tokens
        at_most = [c for c in self.cells if c.tokens + c.train.batch * c.train.window() > most]
        return list(dict.fromkeys(str(cell.size) for cell in at_most if cell.phase == "grid"))

    def _run(self, cells: _Cells, waiting: Sequence[Cell]) -> SweepEnd:
        return run_jobs(
            cells,
            waiting,
            total=len(waiting),
            at_once=self.config.jobs,
            request=self.request,
            say=self.say,
            progress=self.progress,
        )

    def _write(self, outlook: Outlook, chosen: dict[str, int]) -> list[Cell]:
        """Writes down what is trained, with the chosen trials; returns the cells of the grid."""
        kept = {_apart_from_trial(cell) for cell in outlook.cells}
        cells = [c for c in make_plan(self.config, chosen) if _apart_from_trial(c) in kept]
        write_plan(self.config, chosen, cells, outlook.left_out, self.speeds)
        return [cell for cell in cells if cell.phase == "grid"]

    def _best(self, results: Mapping[Cell, Result]) -> dict[str, int]:
        """The chosen trial of each family; one that has none yet is left out."""
        chosen = {}
        for family in self.config.families:
            best = choose({c.trial: r for c, r in results.items() if c.family == family.name})
            if len(family.trials) == 1:
                chosen[family.name] = 0
            elif best is not None:
                chosen[family.name] = best
        for family in self.config.families:
            if family.trials_of is not None and family.trials_of in chosen:
                chosen[family.name] = chosen[family.trials_of]
        return chosen

    def _say_chosen(self, chosen: dict[str, int], results: Mapping[Cell, Result]) -> None:
        for family in self.config.families:
            if family.name not in chosen:
                self.say(f"{family.name}: no trial is finished, so there is none to go on with")
            for cell, result in results.items():
                if (cell.family, cell.trial) == (family.name, chosen.get(family.name)):
                    self.say(
                        f"{family.name}: trial {cell.trial + 1} of {len(family.trials)} is chosen, "
                        f"{result.validation.bits_per_byte:.4f} bits a byte"
                    )


def _apart_from_trial(cell: Cell) -> tuple[str, str, str, float, int]:
    return cell.phase, cell.family, str(cell.size), cell.tokens_per_parameter, cell.seed


def _finished(cells: Sequence[Cell]) -> dict[Cell, Result]:
    """The records that can be read."""
    found = {}
    for cell in cells:
        with suppress(ValueError):
            result = find_finished(cell)
            if result is not None:
                found[cell] = result
    return found


class _Cells:
    """The cells of a phase, as jobs."""

    def __init__(self, config: ScalingConfig, start: Start) -> None:
        self.config, self._start = config, start
        self.results: dict[Cell, Result] = {}

    def folder(self, job: Cell) -> Path:
        return job.folder

    def name(self, job: Cell) -> str:
        return str(job)

    def find(self, job: Cell) -> Result | None:
        return find_finished(job)

    def start(self, job: Cell) -> Running:
        request, threads = to_plain(job), self.config.threads
        return self._start(job.folder, "hyena.scaling.cell.work", request, threads=threads)

    def line(self, found: Result) -> str:
        bits = f"{found.validation.bits_per_byte:.4f} bits a byte"
        return f"{bits}, {found.tokens:,} tokens, {found.seconds / 60:.1f} min"

    def after(self, job: Cell, found: Result | None) -> list[Cell]:
        if found is not None:
            self.results[job] = found
        return []


class _Measured:
    """The speeds of a sweep, as jobs: of the first cell of each family at each size."""

    def __init__(self, config: ScalingConfig, manifest: Manifest, start: Start) -> None:
        self.config, self.manifest, self._start = config, manifest, start
        self.results: dict[Cell, Throughput] = {}

    def folder(self, job: Cell) -> Path:
        threads = "" if self.config.threads is None else f"_threads-{self.config.threads}"
        name = f"{job.size.width}x{job.size.layers}_{digest_of(job.train, self.manifest)}{threads}"
        return self.config.out / SPEEDS / name

    def name(self, job: Cell) -> str:
        return f"speed of {job.family} {job.size}"

    def find(self, job: Cell) -> Throughput | None:
        return read_speed(self.folder(job))

    def start(self, job: Cell) -> Running:
        folder, threads = self.folder(job), self.config.threads
        request = to_plain(replace(job.train, out=folder / RUN))
        return self._start(folder, "hyena.scaling.hours.work", request, threads=threads)

    def line(self, found: Throughput) -> str:
        return f"{found.tokens_per_second:,.0f} tokens a second"

    def after(self, job: Cell, found: Throughput | None) -> list[Cell]:
        if found is not None:
            self.results[job] = found
        return []
