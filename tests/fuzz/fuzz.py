"""Hostile input of three kinds against the hyena of this Python, and a count of what is found.

``make fuzz`` runs all; ``python tests/fuzz/fuzz.py --help`` has the options. Cases are drawn from a
seed and numbered, so that ``--only calls:123`` runs one again and shows it. Each runs in a process
with a bound on its memory and its time; the cases of a process share its libraries.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
COUNTS = {"files": 4000, "words": 2000, "calls": 15_000}
FAULTS = ("traceback", "crash", "slow", "silent", "message", "foreign")
SECONDS = 40.0  # a run that takes longer is a fault
MEMORY = 3 << 30  # bytes beside the libraries
AT_A_TIME = 400  # cases of a process


@dataclass
class Report:
    """What a kind of input has found."""

    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)


def module_of(kind: str) -> Any:
    """The module whose ``run`` draws and runs a case of a kind."""
    names = {"files": "damaged_files", "words": "command_lines", "calls": "api_calls"}
    return importlib.import_module(names[kind])


def one(kind: str, number: int, seed: int, sound: Path) -> dict[str, Any]:
    """Runs a case by its number in the working directory."""
    outcome, what = module_of(kind).run(random.Random(f"{seed} {kind} {number}"), sound)
    return {"number": number, "what": what, **asdict(outcome)}


class Process:
    """A process that runs some of the cases of a kind, one after the other."""

    def __init__(self, kind: str, numbers: list[int], seed: int, sound: Path) -> None:
        self.numbers = numbers
        self.begun = time.monotonic()
        self.folder = Path(tempfile.mkdtemp(prefix="hyena-fuzz-"))
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _work(kind, numbers, seed, sound, self.folder, write)
        os.close(write)
        self.lines = os.fdopen(read, "rb", buffering=0)
        self.rest = b""

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The cases that have ended since, and whether the process has."""
        data = os.read(self.lines.fileno(), 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        found = [json.loads(line) for line in lines]
        for case in found:
            self.numbers.remove(case["number"])
            self.begun = time.monotonic()
        return found, not data

    def end(self) -> int:
        """Ends it and what it started. Returns: the signal that it had ended by, or 0."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.lines.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _work(kind: str, numbers: list[int], seed: int, sound: Path, folder: Path, write: int) -> None:
    """What the process does; it does not return."""
    os.setsid()
    os.chdir(folder)
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    code = 1
    try:
        for number in list(numbers):
            case = one(kind, number, seed, sound)
            os.write(write, json.dumps(case).encode() + b"\n")
        code = 0
    except BaseException:
        import traceback

        problem = traceback.format_exc()[-600:]
        case = {"number": number, "what": "", "kind": "broken", "detail": problem, "where": "fuzz"}
        os.write(write, json.dumps(case).encode() + b"\n")
    os._exit(code)


def run(kind: str, numbers: list[int], seed: int, jobs: int, sound: Path) -> Report:
    """Runs cases of a kind, ``jobs`` side by side."""
    report = Report()
    waiting = [numbers[i : i + AT_A_TIME] for i in range(0, len(numbers), AT_A_TIME)]
    running: list[Process] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Process(kind, waiting.pop(0), seed, sound))
        ready, _, _ = select.select([p.lines for p in running], [], [], 1.0)
        for process in list(running):
            ended = False
            if process.lines in ready:
                found, ended = process.read()
                for case in found:
                    _note(report, case)
            slow = time.monotonic() - process.begun > SECONDS
            if not ended and not slow:
                continue
            running.remove(process)
            number = process.end()
            if process.numbers and (number or slow):
                kind_of_end = "slow" if slow else "crash"
                detail = f"over {SECONDS:.0f} s" if slow else signal.Signals(number).name
                lost = {"number": process.numbers.pop(0), "what": "", "where": ""}
                _note(report, {**lost, "kind": kind_of_end, "detail": detail})
            if process.numbers:
                waiting.insert(0, process.numbers)
    return report


def _note(report: Report, case: dict[str, Any]) -> None:
    report.cases += 1
    report.counts[case["kind"]] += 1
    if case["kind"] not in ("taken", "refused"):
        report.faults.append(case)


def made(folder: Path) -> Path:
    """What is sound, written by a process of its own."""
    sound = folder / "sound"
    sound.mkdir()
    pid = os.fork()
    if pid == 0:
        os.chdir(sound)
        code = 1
        try:
            module_of("files").make()
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the sound files could not be made")
    return sound


def table(reports: dict[str, Report]) -> str:
    """Cases, and how many of each kind of end."""
    columns = ("taken", "refused", *FAULTS)
    lines = ["| input | cases | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for kind, report in reports.items():
        cells = [f"{report.counts[column]:,}" for column in columns]
        lines.append(f"| {kind} | {report.cases:,} | " + " | ".join(cells) + " |")
    distinct = tracebacks(reports)
    lines.append(f"\n{len(distinct)} distinct tracebacks (exception, innermost function of hyena)")
    return "\n".join(lines)


def tracebacks(reports: dict[str, Report]) -> Counter[str]:
    """How often each place raised what is no answer to a mistake."""
    return Counter(
        case["where"]
        for report in reports.values()
        for case in report.faults
        if case["kind"] == "traceback"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each kind")
    parser.add_argument("--kinds", nargs="+", default=list(COUNTS), choices=list(COUNTS))
    parser.add_argument("--only", help="KIND:NUMBER, one case, in this process")
    parser.add_argument("--out", type=Path, help="a JSON file of all faults")
    options = parser.parse_args()
    import warnings

    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="hyena-fuzz-") as folder:
        sound = made(Path(folder))
        if options.only:
            kind, _, number = options.only.partition(":")
            here = Path(folder) / "here"
            here.mkdir()
            os.chdir(here)
            print(json.dumps(one(kind, int(number), options.seed, sound), indent=1))
            os.chdir("/")
            return 0
        reports = {}
        for kind in options.kinds:
            begun = time.monotonic()
            module_of(kind)
            numbers = list(range(round(COUNTS[kind] * options.share)))
            reports[kind] = run(kind, numbers, options.seed, options.jobs, sound)
            print(f"{kind}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    for kind, report in reports.items():
        for case in report.faults:
            if case["kind"] != "foreign":
                print(kind, case["number"], case["kind"], case["where"], case["detail"][:160])
    print(table(reports))
    for where, count in tracebacks(reports).most_common():
        print(f"  {count:5}  {where}")
    if options.out:
        found = {kind: vars(report) for kind, report in reports.items()}
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(any(report.faults for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
