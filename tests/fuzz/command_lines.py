"""Command lines with hostile values of options."""

import random
import shlex
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import damaged_files
from case_outcome import Outcome, commanded
from hostile import damage, options_file

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
    damaged_files.TRAIN,
    damaged_files.EVALUATE,
    damaged_files.GENERATE,
    damaged_files.CELL,
    damaged_files.BY_POSITION,
    damaged_files.SCORE,
    damaged_files.READS,
    damaged_files.VARIANTS,
    damaged_files.REGIONS,
    damaged_files.EMBED,
    damaged_files.TUNE,
    damaged_files.PREDICT,
    damaged_files.PREPARE_GENOME,
    shlex.split("prepare dna/reads.fastq --out n --tokenizer evo"),
    shlex.split("convert dna/safari n"),
    shlex.split("convert dna/stripedhyena2 n --dtype bfloat16"),
    shlex.split("convert dna/own-safari n --to safari"),
    shlex.split("generate run --prompt AC --allowed_tokens ACGT --logit_bias N=-5"),
    shlex.split("plan train.yaml"),
    shlex.split("scaling run scaling.yaml"),
    shlex.split("scaling table scaling --out n"),
    shlex.split("prepare texts --out n"),
    shlex.split("info run"),
    shlex.split("info 125M"),
    shlex.split("tasks show recall --task.length 8 --task.vocab_size 6"),
    *[shlex.split("tasks sweep sweep.yaml")] * 2,
    shlex.split("tasks table sweep"),
    shlex.split("distill run --out n --state 2 --documents 1"),
    shlex.split("bench goals --lengths [3] --out n"),  # which has no such row: nothing is timed
    shlex.split("plot run --out n"),
)
FILES = (
    "wide.yaml",
    "deep.yaml",
    "self.yaml",
    "long.yaml",
    "train.yaml",
    "scaling.yaml",
    "lines.jsonl",
    "absent",
    ".",
)
DRAWN = "drawn.yaml"
# A sweep whose cells have no settings trains the defaults: minutes of work that was asked for.
NO_SETTINGS, NO_STEPS = "{}", "{training: {steps: -1}}"
_PATHS = ("config", "out", "destination", "by_position")  # written or read at the end: no devices
# Real files and folders of every kind, most of them of the wrong one for the option.
REAL = (
    *("data", "run", "cell", "texts", "texts/0.txt", "lines.jsonl", "tokenizer.json", "sweep.yaml"),
    *("state.safetensors", "run/checkpoints", "run/metrics.jsonl", "data/manifest.json", "empty"),
    *(
        "run/checkpoints/step-00000002",
        "run/checkpoints/step-00000002/model.safetensors",
        "nothing",
    ),
    *("train.yaml", "loop", "closed", "run/checkpoints/../checkpoints", "/dev/null", "/dev/full"),
    *(
        "rows.tsv",
        "tuned",
        "cell/result.json",
        "no/such/folder",
        "data/",
        "./run",
        "a file with blanks",
        "ünïcödé",
    ),
    *("dna", "dna/genome.fa", "dna/genome.fa.gz", "dna/reads.fastq", "dna/variants.vcf"),
    *("dna/regions.bed", "dna/safari"),
    *("dna/hyenadna-hf/model.safetensors", "dna/stripedhyena2/model.pt", "scaling", "curve.json"),
)
SOUND = {
    int: ("0", "1", "2", "3", "4", "8", "16", "64", "-7", "2147483648"),
    float: ("0", "0.1", "0.5", "1", "1.5", "-0.5", "1e-8", "1e30"),
    bool: ("true", "false"),
    str: ("hyena", "attention", "hyena,attention", "bytes", "text", "The state", "induction", "é"),
    type(None): ("null",),
}
SMALL = ("1", "2", "3")  # of work


def options_of(kind: Any, prefix: str = "") -> dict[str, Any]:
    """The dotted names of the fields of a dataclass and of those inside, and their types."""
    hints = get_type_hints(kind)
    found = {}
    for field in fields(kind):
        found[prefix + field.name] = hints[field.name]
        if is_dataclass(hints[field.name]):
            found |= options_of(hints[field.name], f"{prefix}{field.name}.")
    return found


def _fitting(rng: random.Random, name: str, hint: Any) -> str:
    """A value of the option's type, which gets past the command line to the work itself."""
    inside = get_args(hint)
    if get_origin(hint) is Literal:
        return str(rng.choice(inside))
    if get_origin(hint) in (list, tuple):
        kinds = [inside[0]] * rng.randrange(4) if get_origin(hint) is list else inside
        return f"[{','.join(_fitting(rng, name, kind) for kind in kinds)}]"
    if inside and get_origin(hint) is not dict:
        return _fitting(rng, name, rng.choice(inside))
    if hint is int and name.rpartition(".")[2] in WORK:
        return rng.choice(SMALL)
    return rng.choice(REAL if hint is Path else SOUND.get(hint, VALUES))


def draw(rng: random.Random, sound: Path) -> tuple[str, Callable[[], Outcome]]:
    """One command line in the working directory: what it is, and a function that runs it."""
    from hyena.cli.program import GROUPS, module_of

    words = list(rng.choice(BASES))
    command = " ".join(words[: 2 if words[0] in GROUPS else 1])
    if command == "train":
        words = damaged_files.elsewhere(words, "new")
    options = {**options_of(module_of(command).Config), "config": Path}
    _name_the_first(words, len(command.split()), module_of(command).POSITIONAL)
    damaged_files.fresh(sound)
    _add_hostile()
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = _spoiled(rng, words, options)
    if command == "bench":  # a suite may have been drawn that has rows: none is measured for long
        given = {word.partition("=")[0] for word in words}
        words += [x for x in ("--seconds=0.01", "--only=none") if x.partition("=")[0] not in given]
    what = shlex.join([word[:200] for word in words])
    if DRAWN in words:
        what += f" with {Path(DRAWN).read_bytes()[:200]!r}"
    if rng.random() < 0.15:  # one of the files that a command may read
        files = [path for path in sorted(sound.rglob("*")) if path.is_file()]
        file = rng.choice(files).relative_to(sound)
        what += f"; {file}: {damage(rng, file, files)}"
    return what, lambda: commanded(words)[0]


def _name_the_first(words: list[str], at: int, positional: str | tuple[str, ...] | None) -> None:
    """Puts the names of options before the words that stand there without, so that they can be
    given other values."""
    names = (positional,) if isinstance(positional, str) else positional or ()
    for name in names:
        if words[at : at + 1] and not words[at].startswith("--"):
            words.insert(at, f"--{name}")
            at += 2


def _add_hostile() -> None:
    """What no command writes, beside what is sound."""
    Path("nothing").touch()
    Path("empty").mkdir()
    Path("loop").symlink_to("loop")
    Path("closed").write_text("Nobody may read this.")
    Path("closed").chmod(0)
    Path("a file with blanks").write_text("Some words.\n")
    Path("ünïcödé").write_bytes("déjà vu".encode("latin-1"))


def _spoiled(rng: random.Random, words: list[str], options: dict[str, Any]) -> list[str]:
    kind = rng.random()
    if kind < 0.04:  # a word too many, too few or in the wrong place
        at = rng.randrange(1, len(words) + 1)
        return [*words[:at], rng.choice((*VALUES, "--", "-x", "--help=1", "--=1")), *words[at:]]
    if kind < 0.06:
        at = rng.randrange(1, len(words))
        return words[:at] + words[at + 1 :]
    if kind < 0.08:
        return [*words, "--config", rng.choice(FILES)]
    if kind < 0.18:
        names = [name for name in options if "." not in name or rng.random() < 0.3]
        lines = options_file(rng, names, VALUES)
        file = lines.replace(f"base: {NO_SETTINGS}".encode(), f"base: {NO_STEPS}".encode())
        Path(DRAWN).write_bytes(file)
        return [*words, "--config", DRAWN]
    option = rng.choice(list(options))
    fits = rng.random() < 0.85
    value = _fitting(rng, option, options[option]) if fits else rng.choice((*VALUES, *REAL))
    last = option.rpartition(".")[2]
    if last in WORK and value not in SMALL and (value.isdigit() or value in ("null", "", "[]")):
        value = "-1"
    if option == "base" and value == NO_SETTINGS:
        value = NO_STEPS
    if last in _PATHS and value.startswith(("/", "..")):
        value = ""
    if kind < 0.2:  # a name that is not there
        at = rng.randrange(len(option))
        option = option[:at] + rng.choice("x.-_") + option[at + 1 :]
    # An option that is there already is given another value rather than twice.
    words = _without(words, option) if rng.random() < 0.9 else words
    if rng.random() < 0.5:
        return [*words, f"--{option}={value}"]
    return [*words, f"--{option}", value]


def _without(words: list[str], option: str) -> list[str]:
    """The words without the option and its value."""
    kept, skipped = [], False
    for word in words:
        if skipped:
            skipped = False
        elif word.partition("=")[0] == f"--{option}":
            skipped = "=" not in word
        else:
            kept.append(word)
    return kept
