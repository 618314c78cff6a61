"""What a server takes at once: many streams, a long prompt beside them, a prompt known in part.

    python benchmarks/serving.py
    python benchmarks/serving.py --quick   # a tiny model, seconds
    python benchmarks/serving.py --only kept

`hyena serve` is one process, its clients another on the same machine (serving_clients.py). The
model has random weights: 8 layers of width 256, bytes, float32. Prompts are of 512 tokens drawn
anew, answers of 128, greedy.

- streams: 50 clients for a minute, each with one request after the other, against one client.
- beside: 8 clients for a minute, with and without a prompt of 100,000 tokens beside them: the 99th
  percentile of the time between two tokens of an answer, while that prompt is read.
- kept: the time to the first token after 100,000 tokens and 100 more, of which the 100,000 were
  served before, against the first time.

Some answers are compared with those of `hyena.generation.generate`. Results go to
benchmarks/results/serving_HARDWARE_DATE, or to --out; a run that was interrupted goes on.
"""

import argparse
import datetime
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from serving_clients import Clients

import hyena
from hyena import LanguageModel, ModelConfig
from hyena.bench import folder
from hyena.bench.goals import Goal, Measured, Results
from hyena.bench.report import bullets, goal_rows, lines, not_measured
from hyena.data import load_tokenizer
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.generation import generate
from hyena.machine import convolution, hardware, setting

CLIENTS = Path(__file__).with_name("serving_clients.py")
NAME = "bytes"
COMPARED = 8  # answers that are compared with those of one run alone


@dataclass(frozen=True)
class Case:
    """A part of the measurement."""

    kind: str
    """What is measured, see above."""
    width: int = 256
    layers: int = 8
    clients: int = 50
    prompt: int = 512
    tokens: int = 128
    long: int = 100_000
    """Tokens of the long prompt."""
    seconds: float = 60.0

    contenders = ()

    @property
    def key(self) -> str:
        """The name of the case and of its file."""
        return self.kind

    def __str__(self) -> str:
        return f"{self.kind}, {self.layers} × {self.width}"

    @property
    def room(self) -> int:
        """The longest sequence."""
        return self.long + self.prompt + 1024


FULL = (Case("streams"), Case("beside", clients=8), Case("kept"))
TINY: dict[str, Any] = {"width": 32, "layers": 2, "prompt": 40, "tokens": 12, "seconds": 2.0}
QUICK = (
    Case("streams", clients=6, long=600, **TINY),
    Case("beside", clients=3, long=4500, **TINY),
    Case("kept", long=4500, **TINY),
)


@contextmanager
def server(model: Path, *words: str) -> Iterator[str]:
    """The address of a server, which ends with the context."""
    command = [sys.executable, "-m", "hyena", "serve", str(model), "--port", "0", "--name", NAME]
    process = subprocess.Popen([*command, *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://\S+/", line)
        if found is None:
            raise OSError(f"hyena serve: {line}{process.stderr.read()}")
        yield found[0]
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def clients(url: str, *groups: Clients) -> list[Any]:
    """What groups of clients found; see `serving_clients.run`."""
    asked = json.dumps([asdict(group) for group in groups])
    process = subprocess.run(
        [sys.executable, str(CLIENTS), url, NAME], input=asked, capture_output=True, text=True
    )
    if process.returncode:
        raise OSError(f"the clients failed: {process.stderr[-500:]}")
    found: list[Any] = json.loads(process.stdout)
    return found


def streams_of(groups: Sequence[Any]) -> list[Any]:
    """All streams of all clients."""
    return [stream for group in groups for one in group for stream in one]


def gaps(streams: Sequence[Any], begin: float = 0.0, end: float = float("inf")) -> list[float]:
    """Seconds between tokens of one answer, of those that came between two times."""
    return [
        b - a
        for each in streams
        for a, b in zip(each["at"], each["at"][1:], strict=False)
        if begin <= a and b <= end
    ]


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is at or below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def checked(streams: Sequence[Any], case: Case, model: LanguageModel) -> dict[str, Any]:
    """How many answers went wrong, and how many of some are what the model gives alone."""
    wrong = [each["error"] for each in streams if each["error"] is not None]
    short = [s for s in streams if s["error"] is None and len(s["at"]) != case.tokens]
    some = [each for each in streams if each["error"] is None and len(each["prompt"]) < 5000]
    some = some[:: max(1, len(some) // COMPARED)][:COMPARED]
    alone = generate(
        model,
        [each["prompt"] for each in some],
        tokenizer=load_tokenizer("bytes"),
        max_new_tokens=case.tokens,
        temperature=0,
        logit_bias={256: -1000},
    )
    same = sum(each["text"] == own.text for each, own in zip(some, alone, strict=True))
    return {
        "answers": len(streams),
        "errors": len(wrong),
        "first_error": wrong[0] if wrong else None,
        "incomplete": len(short),
        "compared": len(some),
        "alike": same,
    }


def measure(case: Case, _: Results | None = None) -> folder.Result:
    """A case's figures. Returns: "row", "figures", "checks"; or instead "failed", one line."""
    record: folder.Result = {"row": {**asdict(case), "contenders": []}, "skipped": {}, "times": {}}
    torch.manual_seed(0)
    config = ModelConfig(width=case.width, layers=case.layers, vocab_size=257, max_length=case.room)
    model = LanguageModel(config).eval()
    with tempfile.TemporaryDirectory() as scratch:
        saved = Path(scratch) / "model"
        model.save(saved)
        load_tokenizer("bytes").save(saved)
        words = ["--state_memory", str(8 << 30), "--prefix_memory", str(2 << 30)]
        with server(saved, *words) as url:
            figures, streams = KINDS[case.kind](case, url)
    record["figures"], record["checks"] = figures, checked(streams, case, model)
    return record


def streams(case: Case, url: str) -> tuple[dict[str, float], list[Any]]:
    """Tokens a second of all clients together, and of one alone."""
    clients(url, Clients(2, case.prompt, case.tokens, 0.0))  # not counted
    found: list[Any] = []
    figures = {}
    for count in (1, case.clients):
        group = clients(url, Clients(count, case.prompt, case.tokens, case.seconds))
        its = streams_of(group)
        times = [at for each in its for at in each["at"] if at <= case.seconds]
        figures[f"tokens/s of {count}"] = len(times) / case.seconds
        first = [each["at"][0] - each["begin"] for each in its if each["at"]]
        figures[f"first token of {count}, s"] = statistics.median(first)
        figures[f"between tokens of {count}, p99, ms"] = 1e3 * percentile(gaps(its), 0.99)
        found += its
    figures["ratio"] = figures[f"tokens/s of {case.clients}"] / figures["tokens/s of 1"]
    return figures, found


def beside(case: Case, url: str) -> tuple[dict[str, float], list[Any]]:
    """The time between tokens with a long prompt beside, and without."""
    usual = Clients(case.clients, case.prompt, case.tokens, case.seconds)
    long = Clients(1, case.long, case.tokens, 0.0, after=min(5.0, case.seconds / 4))
    clients(url, Clients(1, case.long, 1, 0.0))  # not counted: filters are made
    without = streams_of(clients(url, usual))
    beside_it = clients(url, usual, long)
    ((own,),) = beside_it[1]
    if own["error"] is not None:
        raise OSError(f"the long prompt: {own['error']}")
    others = streams_of(beside_it[:1])
    read = gaps(others, own["begin"], own["at"][0])
    figures = {
        "between tokens without, p99, ms": 1e3 * percentile(gaps(without), 0.99),
        "between tokens beside, p99, ms": 1e3 * percentile(read, 0.99),
        "between tokens beside, worst, ms": 1e3 * max(read),
        "reading the long prompt, s": own["at"][0] - own["begin"],
    }
    figures["ratio"] = (
        figures["between tokens beside, p99, ms"] / figures["between tokens without, p99, ms"]
    )
    return figures, [*without, *others]


def kept(case: Case, url: str) -> tuple[dict[str, float], list[Any]]:
    """The time to the first token of what is known in part."""
    clients(url, Clients(1, case.prompt, case.tokens, 0.0))  # not counted
    first = streams_of(clients(url, Clients(1, case.long, 1, 0.0, shared=case.long)))
    again = streams_of(clients(url, Clients(1, case.long + 100, 1, 0.0, shared=case.long)))
    for each in (*first, *again):
        if each["error"] is not None:
            raise OSError(each["error"])
    seconds = [each["at"][0] - each["begin"] for each in (*first, *again)]
    return {
        "first time, s": seconds[0],
        "known in part, s": seconds[1],
        "ratio": seconds[1] / seconds[0],
    }, []


KINDS = {"streams": streams, "beside": beside, "kept": kept}


def goals(cases: Sequence[Case] = FULL) -> list[Goal]:
    """What is to be reached."""
    by_kind = {case.kind: case for case in cases}

    def figure(kind: str) -> Any:
        def read(results: Results) -> Measured | None:
            figures = results.get(kind, {}).get("figures")
            return None if figures is None else Measured(figures["ratio"])

        return read

    def wrong(results: Results) -> Measured | None:
        checks = results.get("streams", {}).get("checks")
        if checks is None:
            return None
        differ = checks["compared"] - checks["alike"]
        return Measured(float(checks["errors"] + checks["incomplete"] + differ))

    many, long = by_kind["streams"], by_kind["kept"]
    rows: list[tuple[str, str, float, bool, Any]] = [
        (f"tokens/s of {many.clients} clients against one", str(many), 6, True, figure("streams")),
        ("answers lost, cut short or not those of one run", str(many), 0, False, wrong),
        (
            "99th percentile between tokens beside a long prompt, against without",
            str(by_kind["beside"]),
            3,
            False,
            figure("beside"),
        ),
        ("time to the first token, prompt known in part", str(long), 0.05, False, figure("kept")),
    ]
    return [Goal(i, *row) for i, row in enumerate(rows, 1)]


def report(results: Results, where: Mapping[str, Any], wanted: Sequence[Goal]) -> str:
    """The whole report as Markdown."""
    rows = [
        {"case": key, "figure": name, "value": f"{value:.4g}"}
        for key, result in results.items()
        for name, value in [
            *result.get("figures", {}).items(),
            *((k, v) for k, v in result.get("checks", {}).items() if isinstance(v, int)),
        ]
    ]
    notes = [f"{name}: {value}" for name, value in where.items()]
    parts = ["# Serving", bullets(notes), "## Goals", table(goal_rows(wanted, results, {}))]
    if rows:
        parts += ["## Figures", table(lines(rows))]
    return "\n\n".join([*parts, *not_measured(results)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 1 if a case could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--only", choices=KINDS, help="one of the cases")
    parser.add_argument("--quick", action="store_true", help="a tiny model, seconds")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    asked = parser.parse_args(arguments)
    cases = QUICK if asked.quick else FULL
    chosen = [case for case in cases if asked.only in (None, case.kind)]
    try:
        where = {**setting(), **convolution(), "hyena": hyena.__version__}
        del where["command"]  # of which a run that goes on may have another
        name = f"serving{'-quick' * asked.quick}_{hardware()}_{datetime.date.today():%Y-%m-%d}"
        out = asked.out or Path("benchmarks/results", name)
        if asked.fresh:
            folder.clear(out)
        folder.open_folder(out, where, again="--fresh")
        results = folder.run(chosen, out, measure)
    except (OSError, ValueError) as error:
        sys.exit(f"serving: {error}")
    wanted = goals(cases)
    document = {"setting": where, "goals": [goal.record(results) for goal in wanted]}
    folder.write_json(out / "results.json", {**document, "rows": results})
    text = report(results, where, wanted)
    write_text(out / "table.md", text)
    print(text)
    return int(any("failed" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
