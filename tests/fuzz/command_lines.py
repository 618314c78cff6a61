"""Command lines with hostile values of options."""

import random
import shlex
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import damaged_files
from hostile import options_file
from outcome import Outcome, commanded

VALUES = (
    *("", "x", "-1", "0", "1.5", "nan", "inf", "-inf", ".nan", ".inf", "1e400", "null", "true"),
    *("10000000000000000000", "-10000000000000000000", "4294967296", "9223372036854775807", "{}"),
    *(
        "9223372036854775808",
        "[]",
        "[1,",
        "{a: 1",
        "[[[[1]]]]",
        "&a [*a]",
        "*a",
        "!!python/tuple []",
    ),
    *("../x", "/dev/null", ".", "data", "run", "é", "a\0b", "x" * 5000, "[nan]", "[-1]", "['x']"),
    *("1_0", "0x10", "2024-01-01", "{a: 1, a: 2}", "!!binary x", "? x", "- x", "%", "@", "`"),
)
# Options that say how much work there is: only what is no such number.
WORK = {
    *("steps", "batches", "max_new_tokens", "count", "repeats", "seconds", "documents", "jobs"),
    *("devices", "num_nodes", "threads", "trials", "seeds", "stop_after", "digits", "every"),
    *("validation_sequences", "test_sequences", "evaluate_every", "beam_width", "max_state"),
    "lengths",
}
BASES = (
    damaged_files.TRAIN[:5] + damaged_files.TRAIN[5:],
    damaged_files.EVALUATE,
    damaged_files.GENERATE,
    damaged_files.CELL,
    shlex.split("prepare texts --out n"),
    shlex.split("info run"),
    shlex.split("info 125M"),
    shlex.split("tasks show recall --task.length 8 --task.vocab_size 6"),
    *[shlex.split("tasks sweep sweep.yaml")] * 2,
    shlex.split("tasks table cell"),
    shlex.split("distill run --out n --state 2 --documents 1"),
    shlex.split("bench goals --lengths [3] --out n"),  # which has no such row: nothing is timed
    shlex.split("plot absent"),
)
FILES = (
    "wide.yaml",
    "deep.yaml",
    "self.yaml",
    "long.yaml",
    "train.yaml",
    "lines.jsonl",
    "absent",
    ".",
)
DRAWN = "drawn.yaml"
_PATHS = ("config", "out")  # that are written or read at the end: no devices


def names(kind: Any, prefix: str = "") -> list[str]:
    """The dotted names of the fields of a dataclass and of those inside."""
    hints = get_type_hints(kind)
    found = []
    for field in fields(kind):
        found.append(prefix + field.name)
        if is_dataclass(hints[field.name]):
            found += names(hints[field.name], f"{prefix}{field.name}.")
    return found


def draw(rng: random.Random, sound: Path) -> tuple[str, Callable[[], Outcome]]:
    """One command line in the working directory: what it is, and a function that runs it."""
    from hyena.cli.program import GROUPS, module_of

    words = list(rng.choice(BASES))
    command = " ".join(words[: 2 if words[0] in GROUPS else 1])
    if command == "train":
        words += ["--out", "new"]
    options = [*names(module_of(command).Config), "config"]
    damaged_files.fresh(sound)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = _spoiled(rng, words, options)
    what = shlex.join([word[:200] for word in words])
    if DRAWN in words:
        what += f" with {Path(DRAWN).read_bytes()[:200]!r}"
    return what, lambda: commanded(words)[0]


def _spoiled(rng: random.Random, words: list[str], options: list[str]) -> list[str]:
    kind = rng.random()
    if kind < 0.08:  # a word too many, too few or in the wrong place
        at = rng.randrange(1, len(words) + 1)
        return [*words[:at], rng.choice((*VALUES, "--", "-x", "--help=1", "--=1")), *words[at:]]
    if kind < 0.12:
        at = rng.randrange(1, len(words))
        return words[:at] + words[at + 1 :]
    if kind < 0.15:
        return [*words, "--config", rng.choice(FILES)]
    if kind < 0.35:
        names = [name for name in options if "." not in name or rng.random() < 0.3]
        Path(DRAWN).write_bytes(options_file(rng, names, VALUES))
        return [*words, "--config", DRAWN]
    option = rng.choice(options)
    value = rng.choice(VALUES)
    last = option.rpartition(".")[2]
    if last in WORK and (value.isdigit() or value in ("null", "", "[]")):
        value = "-1"
    if last in _PATHS and value.startswith(("/", "..")):
        value = ""
    if kind < 0.4:  # a name that is not there
        at = rng.randrange(len(option))
        option = option[:at] + rng.choice("x.-_") + option[at + 1 :]
    if rng.random() < 0.5:
        return [*words, f"--{option}={value}"]
    return [*words, f"--{option}", value]
