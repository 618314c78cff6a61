"""The paper's recipes in small: configs/wikitext103.yaml and configs/pile.yaml for 50 steps.

Each is trained on stand-in text with nothing changed but what `changed` prints: the number of
steps, eight sequences a step without accumulation, a warm-up of the same share of the steps, and no
evaluation on the way. In bfloat16 as configured, and the first ten steps in float32 from the same
weights. Each run is a process of its own, whose memory is measured. `DIFFERENCES` are those of the
recipes themselves from what the paper and its public code say.

    python benchmarks/english.py --out data/english-text
    hyena prepare data/english-text/documents --out data/english-gpt2 --tokenizer gpt2
    python benchmarks/paper_recipe.py --out benchmarks/results/paper-recipe_HARDWARE_DATE

A run that is in the folder already is kept, so that an interrupted call goes on with the next one.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hyena.bench.model.work import peak
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.files.records import flatten, from_plain, read_json, to_plain
from hyena.machine import convolution, setting
from hyena.model import LanguageModel
from hyena.training import TrainConfig, read_metrics, train
from hyena.training.metrics import FILE as METRICS

CONFIGS = Path(__file__).parent.parent / "configs"
RECIPES = ("wikitext103", "pile")
STEPS, STEPS_IN_FLOAT32, BATCH = 50, 10, 8
WARM = 2  # steps whose speed does not count

Run = dict[str, Any]
"""What became of one training, as it is in ``results.json``."""


class Difference(NamedTuple):
    """What a recipe does otherwise than the paper or its public code.

    ``option`` and ``value`` are this package's, of a configuration; none where it is no option.
    """

    recipe: str
    what: str
    there: str
    here: str
    source: str
    option: str | None = None
    value: Any = None


PUBLIC = "public code, {}"
_PILE, _WIKITEXT = "configs/experiment/pile/hyena.yaml", "configs/experiment/wt103/base.yaml"
_WINDOWS = "src/dataloaders/datasets/lm_dataset.py"

DIFFERENCES = (
    Difference(
        "wikitext103",
        "the layer",
        "sizes and order by the paper; no configuration is published",
        "order 3, filters as for The Pile",
        "Table 4.3; " + PUBLIC.format("issue 28"),
        "model.order",
        3,
    ),
    Difference(
        "wikitext103",
        "dropout",
        "0.1 on the embedding; an author advises 0.2",
        "none",
        PUBLIC.format(f"{_WIKITEXT}, issue 28"),
        "model.dropout",
        0.0,
    ),
    Difference(
        "wikitext103",
        "betas of AdamW",
        "not said for this text",
        "0.9 and 0.98, as for The Pile",
        "Table A.4",
        "optimizer.betas",
        [0.9, 0.98],
    ),
    Difference(
        "wikitext103",
        "precision",
        "float16",
        "bfloat16, weights in float32",
        PUBLIC.format(_WIKITEXT),
        "precision",
        "bf16-mixed",
    ),
    Difference(
        "wikitext103",
        "between articles",
        "no token",
        "end_of_text",
        PUBLIC.format("configs/dataset/wt103.yaml"),
    ),
    Difference(
        "pile",
        "dropout",
        "0.1 on the embedding; none by the paper",
        "none",
        PUBLIC.format(_PILE) + "; Table A.4",
        "model.dropout",
        0.0,
    ),
    Difference(
        "pile",
        "learning rate of the encodings",
        "6e-4, as of all",
        "1e-5, the default of the public layer",
        PUBLIC.format(_PILE),
        "optimizer.encoding_lr",
        1e-5,
    ),
    Difference(
        "pile", "text", "The Pile", "The Pile without what is copyrighted", "the file's head"
    ),
    Difference(
        "both",
        "documents in a window",
        "seen by those after them",
        "each by itself",
        PUBLIC.format(_WINDOWS),
        "cross_documents",
        False,
    ),
    Difference(
        "both",
        "windows of an evaluation",
        "side by side",
        "overlap by half (`hyena evaluate` without --stride)",
        PUBLIC.format(_WINDOWS),
    ),
)


def differences() -> str:
    """The differences of the recipes themselves, in Markdown."""
    head = ["recipe", "", "paper and public code", "here", "source"]
    return table([head, *([*row[:5]] for row in DIFFERENCES)])


def recipe(name: str) -> TrainConfig:
    """A configuration as it is shipped."""
    return from_plain(TrainConfig, yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


def shortened(config: TrainConfig, data: Path, steps: int) -> TrainConfig:
    """The recipe for so many steps of eight sequences, on other text."""
    warmup = round(config.schedule.warmup(config.steps) * steps / config.steps)
    return replace(
        config,
        data=data,
        steps=steps,
        batch=BATCH,
        accumulate=1,
        schedule=replace(config.schedule, warmup_steps=max(1, warmup)),
        evaluation=replace(config.evaluation, every=0),
        checkpoint=replace(config.checkpoint, every=0),
    )


def changed(before: TrainConfig, after: TrainConfig) -> list[str]:
    """A line for each option that is not the recipe's."""
    old, new = flatten(to_plain(before)), flatten(to_plain(after))
    return [f"{name}: {old[name]} → {new[name]}" for name in old if old[name] != new[name]]


def run_one(config: TrainConfig) -> Run:
    """Trains a model, in this process, and says what it took; its folder is removed."""
    result = train(config)
    if result.signal:
        raise SystemExit(128 + result.signal)
    records = read_metrics(config.out / METRICS)
    shutil.rmtree(config.out)
    speeds = [record["tokens_per_s"] for record in records]
    return {
        "settings": to_plain(config),
        "parameters": LanguageModel(config.model, device="meta").parameter_count(),
        "losses": [record["loss"] for record in records],
        "gradient_norms": [record["grad_norm"] for record in records],
        "learning_rates": [record["lr"] for record in records],
        "tokens_per_second": statistics.median(speeds[WARM:] or speeds),
        "seconds": sum(config.tokens_per_step() / speed for speed in speeds),
        "peak_bytes": peak(),
    }


def in_process(config: TrainConfig) -> Run:
    """`run_one` in a fresh process. Raises: RuntimeError if it ends without an answer."""
    done = subprocess.run(
        [sys.executable, __file__, "--one"],
        input=json.dumps(to_plain(config)),
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the process of {config.out.name} ended: {done.returncode}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compared(bf16: Run, float32: Run) -> float:
    """The largest difference between the losses of the steps that both have, as a share."""
    pairs = zip(bf16["losses"], float32["losses"], strict=False)
    return max(abs(one - other) / other for one, other in pairs)


def report(runs: dict[str, Run]) -> str:
    """The runs in Markdown."""
    head = ["recipe", "precision", "parameters", "steps × tokens", "loss of the first step"]
    head += ["of the tenth", "of the last", "tokens/s", "peak, GiB"]
    rows, lines = [head], []
    for key, run in runs.items():
        name, _, precision = key.rpartition(" ")
        settings, losses = run["settings"], run["losses"]
        length = settings["length"] or settings["model"]["max_length"]
        shape = f"{len(losses)} × {settings['batch'] * length:,}"
        tenth = f"{losses[9]:.4f}" if len(losses) > 9 else ""
        figures = [f"{losses[0]:.4f}", tenth, f"{losses[-1]:.4f}"]
        figures += [f"{run['tokens_per_second']:,.0f}", f"{run['peak_bytes'] / 2**30:.2f}"]
        rows.append([name, precision, f"{run['parameters']:,}", shape, *figures])
        other = runs.get(f"{name} 32")
        if precision == "bf16-mixed" and other is not None:
            number, apart = min(len(losses), len(other["losses"])), compared(run, other)
            lines.append(
                f"{name}: over the first {number} steps the losses in bfloat16 and in float32 are "
                f"within {100 * apart:.2g}% of each other."
            )
    return "\n\n".join([table(rows), *lines])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, default=Path("data/english-gpt2"))
    parser.add_argument("--out", type=Path, help="folder of results.json and table.md (required)")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=RECIPES)
    parser.add_argument("--steps", type=int, default=STEPS)
    choice = parser.parse_args(arguments)
    if choice.one:
        print(json.dumps(run_one(from_plain(TrainConfig, json.load(sys.stdin)))))
        return
    if choice.out is None:
        parser.error("expected --out, a folder for the results")
    file = choice.out / "results.json"
    runs: dict[str, Run] = {}
    if file.is_file():
        runs = read_json(file, advice="remove it").get("runs", {})
    for name in choice.recipes:
        before = recipe(name)
        whole = shortened(before, choice.data, choice.steps)
        first = replace(whole, precision="32", stop_after=min(STEPS_IN_FLOAT32, choice.steps))
        for config in (whole, first):
            key, changes = f"{name} {config.precision}", changed(before, config)
            print(f"{key}: {'; '.join(changes)}", flush=True)
            asked = replace(config, out=choice.out / key.replace(" ", "-"), resume=True)
            if key in runs and runs[key]["settings"] == to_plain(asked):
                print(f"{key} is there already", flush=True)
                continue
            runs[key] = {"changes": changes, **in_process(asked)}
            where = {**setting(), **convolution()}
            listed = [row._asdict() for row in DIFFERENCES]
            document = {"setting": where, "differences": listed, "runs": runs}
            write_text(file, json.dumps(document, indent=1) + "\n")
    parts = ["# The paper's recipes for a few steps", report(runs)]
    parts += ["## Differences of the recipes from the paper and its public code", differences()]
    text = "\n\n".join(parts) + "\n"
    write_text(choice.out / "table.md", text)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"paper_recipe: {error}")
