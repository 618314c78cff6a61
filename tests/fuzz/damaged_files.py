"""Damaged files: what our own commands wrote at tiny sizes, and what then reads it."""

import functools
import hashlib
import json
import os
import random
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import genome_files
import torch
from case_outcome import Outcome, called, commanded
from hostile import damage
from safetensors.torch import load_file

import hyena

TRAIN = shlex.split(
    "train --data data --out run --model.width=8 --model.layers=2 --model.mixers=hyena,attention "
    "--model.max_length=16 --model.mlp_width=8 --model.filter.width=4 --batch=2 --steps=3 "
    "--evaluation.every=1 --evaluation.batches=1 --checkpoint.every=1 --accelerator=cpu"
)
SWEEP = """rows: [{name: a, settings: {model.mixers: hyena}}]
base: {task: {length: 8, vocab_size: 6}, model: {width: 8, layers: 1, mlp_width: 8},
  model.filter.width: 4, training: {steps: 2, batch: 2, evaluate_every: 2,
  validation_sequences: 4, test_sequences: 4}}
out: sweep
threads: 1
jobs: 1
"""
CELL = shlex.split(
    "tasks run recall --task.length 8 --task.vocab_size 6 --model.width 8 --model.layers 1 "
    "--model.mlp_width 8 --model.filter.width 4 --training.steps 4 --training.batch 2 "
    "--training.evaluate_every 2 --training.validation_sequences 4 --training.test_sequences 4 "
    "--threads 1 --out cell"
)
TUNE = shlex.split(
    "train --init run --task classification --data rows.tsv --out tuned --batch=2 --steps=2 "
    "--evaluation.every=1 --accelerator=cpu"
)
PREDICT = shlex.split("predict tuned rows.tsv --accelerator cpu")
EVALUATE = shlex.split("evaluate run --data data --stride 16 --batch 4 --accelerator cpu")
GENERATE = shlex.split("generate run --prompt The --max_new_tokens 6 --accelerator cpu")
BY_POSITION = shlex.split(
    "evaluate run --data data --by_position curve.json --length 8 --batch 4 --accelerator cpu"
)
SCALING = """data: data
out: scaling
families: [{name: Hyena, settings: {model.mixers: hyena, model.filter.width: 4}},
  {name: attention, settings: {model.mixers: attention, model.head_dim: 4}}]
sizes: [{width: 8, layers: 1}]
tokens_per_parameter: [0.25]
tuning_tokens_per_parameter: 0.1
most_epochs: 100
most_cell_hours: 0.01
base: {model: {vocab_size: 257, max_length: 16, mlp_width: 16}, batch: 4, accelerator: cpu,
  evaluation: {batches: 1}}
threads: 1
"""
SCORE = shlex.split("score run lines.jsonl --accelerator cpu")
PACKED = shlex.split("score run dna/genome.fa.gz --window 8 --accelerator cpu")
READS = shlex.split("score run dna/reads.fastq --both_strands true --accelerator cpu")
VARIANTS = shlex.split(
    "score run --variants dna/variants.vcf --fasta dna/genome.fa --window 12 --accelerator cpu"
)
REGIONS = shlex.split(
    "score run dna/genome.fa --regions dna/regions.bed --window 8 --accelerator cpu"
)
EMBED = shlex.split("embed run lines.jsonl --out vectors.npz --accelerator cpu")
# Which ends at the last row, with a part of the others' scores, and goes on if that may be skipped.
UNFINISHED = shlex.split(
    "score run dna/rows.jsonl --out dna/scores.jsonl --batch 1 --accelerator cpu"
)
FINISHED = [*UNFINISHED, "--on_error=skip"]
PREPARE_GENOME = shlex.split(
    "prepare dna/genome.fa --out n --tokenizer hyenadna --split_by record:b,c --soft_masked mask "
    "--n_runs split"
)


EXPECTED = "expected.json"


def make() -> None:
    """Writes what is sound into the working directory."""
    texts = Path("texts")
    texts.mkdir()
    for i in range(6):
        (texts / f"{i}.txt").write_text(f"Speech {i}. " + "The state of the union. " * 6)
    Path("lines.jsonl").write_text('{"text": "One of them."}\n{"text": "And another."}\n' * 4)
    Path("rows.tsv").write_text("sequence\tlabel\n" + "ACGT\tone\nGGCCAT\tother\n" * 5)
    from tokenizers import Tokenizer, models

    words = {"<|endoftext|>": 0, "[UNK]": 1, "The": 2, "state": 3}
    Tokenizer(models.WordLevel(words, unk_token="[UNK]")).save("tokenizer.json")
    split = ["--validation=0.3", "--test=0.2"]
    _sound(["prepare", "texts", "--out", "data", *split])
    Path("train.yaml").write_text(_sound([*TRAIN, "--print_config"]))
    _sound([*TRAIN, "--stop_after=2"])
    _sound(TUNE)
    _sound(CELL)
    _sound(BY_POSITION)
    _make_scaling()
    genome_files.make(Path("dna"))
    outcome, _ = commanded(UNFINISHED)
    if outcome.kind != "refused" or not Path("dna/scores.jsonl.partial/entries.jsonl").is_file():
        raise RuntimeError(f"no scores were kept: {outcome}")
    Path("sweep.yaml").write_text(SWEEP)
    _sound(["tasks", "sweep", "sweep.yaml"])
    # Above the bounds of a file of options, and no further: aliases, nesting, a value in itself.
    lines = ["base:", "  a0: &a0 [" + "1," * 10 + "]"]
    lines += [f"  a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 6)]
    Path("wide.yaml").write_text("\n".join(lines))
    Path("deep.yaml").write_text("base: " + "[" * 200 + "]" * 200)
    Path("self.yaml").write_text("base: {x: &a [*a]}")
    Path("long.yaml").write_text("steps: 3\n" + "# \n" * 100_000)
    model = _model()
    from hyena.generation import save_state

    _, state = model.prefill(torch.arange(5)[None], future=8)
    save_state(state, "state.safetensors")
    _expect()


def _make_scaling() -> None:
    """A finished sweep, without the weights; it is trained in this process, which is quicker."""
    sys.path.append(str(Path(__file__).parents[1] / "scaling"))
    from small_sweeps import Here

    Path("scaling.yaml").write_text(SCALING)
    with mock.patch("hyena.experiments.executors.start_job", Here):
        _sound(["scaling", "run", "scaling.yaml"])
    for folder in list(Path("scaling").rglob("checkpoints")):
        shutil.rmtree(folder)


def _expect() -> None:
    """Writes what the cases read from sound files, beside their folder."""
    sound = Path.cwd()
    found = []
    with tempfile.TemporaryDirectory(prefix="hyena-fuzz-") as folder:
        os.chdir(folder)
        for case in CASES:
            fresh(sound)
            outcome, out = case.read()
            if outcome.kind != "taken":
                raise RuntimeError(f"what is sound is not taken: {case.name}: {outcome}")
            found.append(out)
        os.chdir(sound)
    (sound.parent / EXPECTED).write_text(json.dumps(found))


def _sound(words: list[str]) -> str:
    outcome, out = commanded(words)
    if outcome.kind != "taken":
        raise RuntimeError(f"a sound command failed: {shlex.join(words)}: {outcome}")
    return out


def _model() -> hyena.LanguageModel:
    torch.manual_seed(0)
    config = hyena.ModelConfig(
        width=8, layers=2, mixers="hyena,attention", max_length=16, mlp_width=8
    )
    return hyena.LanguageModel(config).eval()


def _command(words: list[str]) -> Callable[[], tuple[Outcome, str]]:
    return lambda: commanded(words)


def _written(words: list[str], file: str) -> Callable[[], tuple[Outcome, str]]:
    """A command, and the text of the file that it writes."""

    def write() -> tuple[Outcome, str]:
        outcome, _ = commanded(words)
        return outcome, Path(file).read_text() if outcome.kind == "taken" else ""

    return write


def _trained(words: list[str], out: str) -> Callable[[], tuple[Outcome, str]]:
    """A run to its last step, and the bits of its weights and moments."""

    def train() -> tuple[Outcome, str]:
        outcome, _ = commanded(words)
        last = Path(out, "checkpoints/step-00000003")
        files = [last / "model.safetensors", last / "optimizer.safetensors"]
        if outcome.kind != "taken":
            return outcome, ""
        tensors = [pair for file in files for pair in sorted(load_file(file).items())]
        bits = [x.reshape(-1).view(torch.uint8).numpy().tobytes() for _, x in tensors]
        return outcome, hashlib.sha256(b"".join(bits)).hexdigest()

    return train


def _state() -> tuple[Outcome, str]:
    from hyena.generation import load_state

    logits: list[str] = []

    def step() -> None:
        state = load_state("state.safetensors")
        with torch.no_grad():
            found, _ = _model().step(torch.tensor([7]), state)
        logits.append(str(found.tolist()))

    return called(step), "".join(logits)


def elsewhere(words: list[str], out: str) -> list[str]:
    """The command with another --out."""
    at = words.index("--out")
    return [*words[: at + 1], out, *words[at + 2 :]]


class Case(NamedTuple):
    """A folder or file, those of its files that are damaged, and what then reads them.

    ``compared``: another result than that of sound files is a fault. It is not of what a person or
    another program writes, nor of what has no digest: curves, a table.

    ``lacks``: what the result shows where a file is not there that another run would make.
    """

    weight: int
    name: str
    files: str
    read: Callable[[], tuple[Outcome, str]]
    compared: bool = True
    lacks: str | None = None


_RUN = "checkpoints/step-00000002/*"
_PREPARE = shlex.split("prepare texts --out data --validation=0.3 --test=0.2")
_WITH_TOKENIZER = [*elsewhere(_PREPARE, "n"), "--tokenizer=tokenizer.json"]
CASES = (
    Case(5, "run", _RUN, _command(EVALUATE)),
    Case(3, "run", _RUN, _command(GENERATE)),
    Case(3, "tuned", _RUN, _command(PREDICT)),
    Case(1, "rows.tsv", "", _command(PREDICT), False),
    Case(1, "run", _RUN, _command(["info", "run"])),
    Case(7, "run", _RUN, _trained([*TRAIN, "--resume=true"], "run")),
    Case(1, "run", "**/*", _trained([*TRAIN, "--resume=true"], "run")),
    Case(4, "data", "[mtv]*[!t].*", _command(EVALUATE)),
    Case(3, "data", "[mtv]*[!t].*", _trained(elsewhere(TRAIN, "new"), "new")),
    Case(2, "data", "*", _command(_PREPARE)),
    Case(4, "state.safetensors", "", _state),
    Case(3, "cell", "[!.]*", _command(CELL)),
    Case(2, "sweep", "**/[!.]*", _command(["tasks", "table", "sweep", "--out=n"]), lacks="| ‡ |"),
    Case(2, "tokenizer.json", "", _command(_WITH_TOKENIZER), False),
    Case(3, "train.yaml", "", _command(["train", "--config=train.yaml", "--print_config"]), False),
    Case(1, "sweep.yaml", "", _command(["tasks", "sweep", "sweep.yaml"]), False),
    Case(2, "lines.jsonl", "", _command(["prepare", "lines.jsonl", "--out=n"]), False),
    Case(1, "texts", "*", _command(["prepare", "texts", "--out=n"]), False),
    Case(1, "curve.json", "", _command(BY_POSITION), False),
    Case(2, "scaling", "**/*", _command(["scaling", "table", "scaling", "--out=n"]), False),
    Case(2, "dna", "genome.fa", _command(PREPARE_GENOME), False),
    Case(1, "dna", "genome.fa.gz", _command(PACKED), False),
    Case(1, "dna", "reads.fastq", _command(READS), False),
    Case(2, "dna", "[gv]*[af]", _command(VARIANTS), False),
    Case(1, "dna", "regions.bed", _command(REGIONS), False),
    Case(2, "dna/scores.jsonl.partial", "[!.]*", _written(FINISHED, "dna/scores.jsonl")),
    Case(2, "dna/safari", "*", _command(["convert", "dna/safari", "n"]), False),
    Case(1, "dna/hyenadna-hf", "*", _command(["convert", "dna/hyenadna-hf", "n"]), False),
    Case(2, "dna/stripedhyena2", "*", _command(["convert", "dna/stripedhyena2", "n"]), False),
)  # fmt: skip


@functools.cache
def _expected(file: Path) -> list[str]:
    found: list[str] = json.loads(file.read_text())
    return found


def draw(rng: random.Random, sound: Path) -> tuple[str, Callable[[], Outcome]]:
    """One case in the working directory: what is damaged, and a function that reads it."""
    at = rng.choices(range(len(CASES)), [case.weight for case in CASES])[0]
    case = CASES[at]
    expected = _expected(sound.parent / EXPECTED)[at]
    fresh(sound)
    everything = [f for f in sorted(sound.rglob("*")) if f.is_file()]
    said = []
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
        files = [f for f in sorted(Path(case.name).glob(case.files or "*")) if f.is_file()]
        file = rng.choice(files) if files else Path(case.name)
        if file.is_file():
            said.append(f"{file}: {damage(rng, file, everything)}")

    def read() -> Outcome:
        outcome, out = case.read()
        # Without its record a cell is tested again, says so, and ends with the same lines.
        told = out.endswith(expected) or (case.lacks is not None and case.lacks in out)
        if outcome.kind == "taken" and case.compared and not told:
            return Outcome("silent", f"{out[:150]!r} for {expected[:150]!r}", file.name)
        return outcome

    return f"{'; '.join(said)}; {case.name} read by case {at}", read


def fresh(sound: Path) -> None:
    """Puts what is sound into the working directory, and clears away what a case has made."""
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in sound.iterdir():
        shutil.copytree(path, path.name) if path.is_dir() else shutil.copyfile(path, path.name)
