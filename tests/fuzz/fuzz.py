"""Hostile input of three kinds against the hyena of this Python, and a count of what is found.

``make fuzz`` runs all; ``python tests/fuzz/fuzz.py --help`` has the options. Cases are drawn from a
seed and numbered, so that ``--only calls:123`` runs one again and shows it, and ``--slice 0/4`` a
quarter of them. ``--against PYTHON`` runs the same cases on another build and shows both counts.

Each case runs in a process with bounds on its memory and its time; the cases of a process share its
libraries, which were loaded before it was forked. A case ends in one of these ways:

taken       it worked, which much that looks hostile may
refused     one line of error that hyena raises itself, or too little memory for what was asked
outside     another library refused what hyena only passed on, and says what: no fault, but counted.
            A TypeError or ValueError of one line that shows the argument, by its name or its value;
            or says which type it expected and which it got, at most one call below the one made.
            And a RuntimeError of one line that names the other device that a tensor is on, or says
            that a text names no device
foreign     any other exception from inside another library. It speaks of what its user never saw
message     hyena's own error without a message, or of several lines; a failed command without one
traceback   an exception of a kind that is no answer to a mistake, such as AttributeError or
            IndexError; of a command any exception that comes out of it
silent      a damaged file that was read to another result than the sound one, without a word
slow        over 40 s of processor time
crash       a signal ended the process, or it took over a gigabyte of memory for a small input
"""

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
COUNTS = {"files": 5000, "words": 3600, "calls": 15_000}
MODULES = {"files": "damaged_files", "words": "command_lines", "calls": "api_calls"}
FAULTS = ("traceback", "crash", "slow", "silent", "message", "foreign")
ENDS = ("taken", "refused", "outside", *FAULTS)
SECONDS = 40.0  # of processor time; a case that sleeps has three times as long
MEMORY = 3 << 30  # bytes beside the libraries, where a case is ended
LARGE = 5 << 28  # bytes beside the libraries, where it is a fault
AT_A_TIME = 400  # cases of a process


@dataclass
class Report:
    """What a kind of input has found."""

    kind: str
    cases: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[dict[str, Any]] = field(default_factory=list)

    def note(self, case: dict[str, Any]) -> None:
        """Counts a case, and keeps it if it is no plain refusal."""
        self.cases += 1
        self.counts[case["kind"]] += 1
        if case["kind"] not in ("taken", "refused"):
            self.faults.append(case)
        if case["kind"] not in ("taken", "refused", "outside"):
            shown = (self.kind, case["number"], case["kind"], case["where"], case["detail"][:160])
            print(*shown, flush=True)


def module_of(kind: str) -> Any:
    """The module whose ``draw`` makes a case of a kind."""
    return importlib.import_module(MODULES[kind])


def draw(kind: str, number: int, seed: int, sound: Path) -> tuple[str, Any]:
    """A case by its number: what it is, and a function that runs it in the working directory."""
    found: tuple[str, Any] = module_of(kind).draw(random.Random(f"{seed} {kind} {number}"), sound)
    return found


class Process:
    """A process that runs some of the cases of a kind, one after the other."""

    def __init__(self, kind: str, numbers: list[int], seed: int, sound: Path) -> None:
        self.numbers = numbers
        self.what = ""
        self.folder = Path(tempfile.mkdtemp(prefix="hyena-fuzz-"))
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            _work(kind, numbers, seed, sound, self.folder, write)
        os.close(write)
        self.lines = os.fdopen(read, "rb", buffering=0)
        self.rest = b""
        self._begin()

    def _begin(self) -> None:
        self.begun = time.monotonic()
        self.used = _processor_seconds(self.pid)

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The cases that have ended since, and whether the process has."""
        data = os.read(self.lines.fileno(), 1 << 16)
        *lines, self.rest = (self.rest + data).split(b"\n")
        found = []
        for line in lines:
            case = json.loads(line)
            if isinstance(case, str):  # what begins
                self.what = case
                continue
            found.append({**case, "what": self.what})
            self.numbers.remove(case["number"])
            self._begin()
        return found, not data

    def is_slow(self) -> bool:
        """Whether the case that runs has had its time."""
        seconds = time.monotonic() - self.begun
        used = _processor_seconds(self.pid) - self.used if seconds > SECONDS else 0.0
        return used > SECONDS or seconds > 3 * SECONDS

    def end(self, slow: bool) -> dict[str, Any] | None:
        """Ends it and what it started. Returns: the case that it was lost in, if any."""
        if slow:  # it shows where it is
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
            time.sleep(0.2)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.lines.close()
        where = _place(self.folder.parent / f"{self.folder.name}.stack")
        shutil.rmtree(self.folder, ignore_errors=True)
        if not self.numbers or not (slow or os.WIFSIGNALED(status)):
            return None
        name = f"over {SECONDS:.0f} s" if slow else signal.Signals(os.WTERMSIG(status)).name
        lost = {"number": self.numbers.pop(0), "what": self.what, "where": where}
        return {**lost, "kind": "slow" if slow else "crash", "detail": name}


def _processor_seconds(pid: int) -> float:
    try:
        numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, numbers[11:15])) / os.sysconf("SC_CLK_TCK")


def _place(stack: Path) -> str:
    """The innermost file and function of hyena in a stack that faulthandler has written."""
    text = stack.read_text(errors="replace") if stack.is_file() else ""
    stack.unlink(missing_ok=True)
    for line in text.splitlines():
        if "/hyena/" in line:
            file, _, rest = line.partition("/hyena/")[2].partition('"')
            return f"{file}:{rest.rpartition(' in ')[2]}"
    return "outside"


def _work(kind: str, numbers: list[int], seed: int, sound: Path, folder: Path, write: int) -> None:
    """What the process does; it does not return."""
    os.setsid()
    stack = open(folder.parent / f"{folder.name}.stack", "w")  # noqa: SIM115 until the process ends
    faulthandler.enable(stack)
    faulthandler.register(signal.SIGUSR1, stack)
    os.chdir(folder)
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def tell(line: Any) -> None:
        os.write(write, json.dumps(line).encode() + b"\n")

    code = 1
    try:
        peak = _peak()
        for number in list(numbers):
            what, run = draw(kind, number, seed, sound)
            tell(what)
            case = {"number": number, **asdict(run())}
            grown = _peak() - peak
            if grown > LARGE:
                case |= {"kind": "crash", "detail": f"{grown / 2**30:.1f} GiB; {case['detail']}"}
            tell(case)
            if grown > LARGE >> 2:  # of the next ones too little would be seen
                os._exit(0)
        code = 0
    except BaseException:
        problem = traceback.format_exc()[-600:]
        tell({"number": number, "kind": "broken", "detail": problem, "where": "fuzz"})
    os._exit(code)


def _peak() -> int:
    """The most bytes that the process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def run(kind: str, numbers: list[int], seed: int, jobs: int, sound: Path) -> Report:
    """Runs cases of a kind, ``jobs`` side by side, and prints faults as they come."""
    report = Report(kind)
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
                    report.note(case)
            slow = not ended and process.is_slow()
            if not ended and not slow:
                continue
            running.remove(process)
            lost = process.end(slow)
            if lost:
                report.note(lost)
            if process.numbers:
                waiting.insert(0, process.numbers)
    return report


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
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the sound files could not be made")
    return sound


def table(builds: dict[str, dict[str, Report]]) -> str:
    """Cases of each build, and how many ended how."""
    lines = ["| build | input | cases | " + " | ".join(ENDS) + " | distinct tracebacks |"]
    lines.append("|---" * (len(ENDS) + 4) + "|")
    for build, reports in builds.items():
        for kind, report in reports.items():
            cells = [f"{report.counts[end]:,}" for end in ENDS]
            cells.append(str(len(tracebacks({kind: report}))))
            lines.append(f"| {build} | {kind} | {report.cases:,} | " + " | ".join(cells) + " |")
        lines.append(
            f"| {build} | all | {sum(report.cases for report in reports.values()):,} | "
            + " | ".join(f"{sum(r.counts[end] for r in reports.values()):,}" for end in ENDS)
            + f" | {len(tracebacks(reports))} |"
        )
    return "\n".join(lines)


def tracebacks(reports: dict[str, Report]) -> Counter[str]:
    """How often each place, an exception and the innermost function of hyena, gave no answer."""
    return Counter(
        case["where"]
        for report in reports.values()
        for case in report.faults
        if case["kind"] == "traceback"
    )


def read(file: Path) -> dict[str, Report]:
    """Reports as ``--out`` writes them."""
    found = json.loads(file.read_text())
    return {
        kind: Report(kind, r["cases"], Counter(r["counts"]), r["faults"])
        for kind, r in found.items()
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="cases side by side")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of each kind")
    parser.add_argument("--slice", default="0/1", help="I/N: of these, each Nth from the Ith on")
    parser.add_argument("--kinds", nargs="+", default=list(COUNTS), choices=list(COUNTS))
    parser.add_argument("--only", help="KIND:NUMBER, one case, in this process")
    parser.add_argument("--out", type=Path, help="a JSON file of all that was not plainly refused")
    parser.add_argument("--against", help="the Python of another build, which runs them too")
    return parser.parse_args()


def main() -> int:
    options = _arguments()
    import warnings

    warnings.simplefilter("ignore")
    first, _, step = options.slice.partition("/")
    with tempfile.TemporaryDirectory(prefix="hyena-fuzz-") as folder:
        builds = {"this": {}}
        if options.against:
            builds = {"other": _elsewhere(options.against, Path(folder)), **builds}
        kind, _, number = (options.only or "").partition(":")
        kinds = [kind] if kind else options.kinds
        sound = Path(folder) if kinds == ["calls"] else made(Path(folder))  # calls read no files
        if options.only:
            here = Path(folder) / "here"
            here.mkdir()
            os.chdir(here)
            what, call = draw(kind, int(number), options.seed, sound)
            print(what, json.dumps(asdict(call()), indent=1))
            os.chdir("/")
            return 0
        reports: dict[str, Report] = builds["this"]
        for kind in options.kinds:
            begun = time.monotonic()
            module_of(kind)
            numbers = list(range(round(COUNTS[kind] * options.share)))[int(first) :: int(step)]
            reports[kind] = run(kind, numbers, options.seed, options.jobs, sound)
            print(f"{kind}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print(table(builds))
    for where, count in tracebacks(reports).most_common():
        print(f"  {count:5}  {where}")
    if options.out:
        found = {kind: vars(report) for kind, report in reports.items()}
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return int(
        any(report.counts[end] for report in reports.values() for end in (*FAULTS, "broken"))
    )


def _elsewhere(python: str, folder: Path) -> dict[str, Report]:
    """The reports of another build of the same cases."""
    out = folder / "other.json"
    words = list(sys.argv[1:])
    at = next(i for i, word in enumerate(words) if word.startswith("--against"))
    del words[at : at + 1 + ("=" not in words[at])]
    subprocess.run([python, __file__, *words, f"--out={out}"], stdout=subprocess.DEVNULL)
    if not out.is_file():
        raise RuntimeError(f"{python} ran no cases")
    return read(out)


if __name__ == "__main__":
    sys.exit(main())
