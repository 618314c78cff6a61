"""Hyena against attention as language models: the same data, tokens and parameters.

Trains a model of each kind in the demo's setting at several learning rates and compares the best
of each on held-out documents. The attention model's MLP is widened until the parameters agree
within 2%. Runs resume where they stopped and are not done twice, so several processes may each do
some of the learning rates before one puts the table together. Needs
`hyena prepare sotu --out data/sotu`.

    python benchmarks/language_model.py --out benchmarks/results/language-model_HARDWARE_DATE
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import matplotlib as mpl
import yaml

import hyena
from hyena.data import open_tokens
from hyena.evaluation import evaluate
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.files.records import from_plain
from hyena.machine import setting
from hyena.model import LanguageModel, ModelConfig
from hyena.training import TrainConfig, train
from hyena.training.metrics import FILE, read_metrics

mpl.use("Agg")
import matplotlib.pyplot as plt

CONFIG = Path(__file__).parent.parent / "configs/demo.yaml"


def parameters(config: ModelConfig) -> int:
    return LanguageModel(config, device="meta").parameter_count()


def matched(config: ModelConfig, mixers: str) -> ModelConfig:
    """``config`` with other mixers, its MLP widened or narrowed until the parameters agree."""
    target = parameters(config)
    other = dataclasses.replace(config, mixers=mixers, mlp_width=config.hidden)
    per_unit = config.layers * (2 * config.width + 1)
    wider = config.hidden + round((target - parameters(other)) / per_unit)
    return dataclasses.replace(other, mlp_width=wider)


def score(model: LanguageModel, config: TrainConfig) -> dict[str, float]:
    """Bits per byte over whole documents, with at least half a window of context."""
    length = config.model.max_length
    return {
        split: evaluate(
            model, open_tokens(config.data, split).documents(), length=length, stride=length // 2
        ).bits_per_byte
        for split in ("validation", "test")
    }


def run(name: str, config: TrainConfig, runs: Path) -> dict:
    """Trains if it is not done yet, and evaluates the last weights on both held-out splits."""
    print(f"\n== {name}", flush=True)
    result = train(dataclasses.replace(config, out=runs / name, resume=True))
    model = hyena.load(result.checkpoint)
    kept = runs / name / f"scores-{result.checkpoint.name}.json"
    scores = json.loads(kept.read_text()) if kept.is_file() else score(model, config)
    write_text(kept, json.dumps(scores))
    print(f"{name}: {scores}", flush=True)
    curve = [
        (r["tokens"], r["validation_loss"])
        for r in read_metrics(runs / name / FILE)
        if "validation_loss" in r
    ]
    return {
        "lr": config.optimizer.lr,
        "parameters": model.parameter_count(),
        "tokens": config.steps * config.batch * config.window(),
        "bits_per_byte": scores,
        "validation_curve": curve,
    }


def report(results: dict[str, list[dict]]) -> str:
    heading = ["mixer", "learning rate", "parameters", "tokens"]
    lines = [[*heading, "validation, bits per byte", "test"]]
    for mixer, rows in results.items():
        best = min(rows, key=lambda r: r["bits_per_byte"]["validation"])
        for row in rows:
            bpb, mark = row["bits_per_byte"], "**" if row is best else ""
            sizes = [f"{row['lr']:g}", f"{row['parameters']:,}", f"{row['tokens']:,}"]
            scores = [f"{mark}{bpb[split]:.4f}{mark}" for split in ("validation", "test")]
            lines.append([mixer, *sizes, *scores])
    return table(lines) + "\n"


def plot(results: dict[str, list[dict]], file: Path) -> None:
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for (mixer, rows), color in zip(results.items(), ("C0", "C3"), strict=True):
        best = min(rows, key=lambda r: r["bits_per_byte"]["validation"])
        for row in rows:
            tokens, loss = zip(*row["validation_curve"], strict=True)
            label = f"{mixer}, lr {row['lr']:g}" if row is best else None
            alpha = 1.0 if row is best else 0.3
            axes.plot(tokens, [v / 0.693147 for v in loss], color=color, alpha=alpha, label=label)
    axes.set(xlabel="training tokens", ylabel="validation loss, bits per byte")
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def config(data: Path, runs: Path) -> TrainConfig:
    """The demo's training."""
    plain = yaml.safe_load(CONFIG.read_text())
    return from_plain(TrainConfig, {**plain, "data": str(data), "out": str(runs)})


def main() -> int:
    parser = argparse.ArgumentParser(description="Hyena against attention in the demo's setting")
    parser.add_argument("--data", type=Path, default=Path("data/sotu"))
    parser.add_argument("--runs", type=Path, default=Path("runs/language_model"))
    parser.add_argument("--out", type=Path, required=True, help="folder for table, JSON and plot")
    parser.add_argument("--lr", type=float, nargs="+", default=[3e-3, 6e-3, 1.2e-2])
    parser.add_argument("--steps", type=int, help="instead of the demo's")
    choice = parser.parse_args()

    base = config(choice.data, choice.runs)
    if choice.steps is not None:
        base = dataclasses.replace(base, steps=choice.steps)
    models = {"hyena": base.model, "attention": matched(base.model, "attention")}
    counts = {name: parameters(model) for name, model in models.items()}
    assert abs(counts["hyena"] / counts["attention"] - 1) < 0.02, counts

    results: dict[str, list[dict]] = {name: [] for name in models}
    for lr in choice.lr:
        for name, model in models.items():
            optimizer = dataclasses.replace(base.optimizer, lr=lr)
            training = dataclasses.replace(base, model=model, optimizer=optimizer)
            results[name].append(run(f"{name}-lr{lr:g}", training, choice.runs))

    description = {**setting(), "config": yaml.safe_load(CONFIG.read_text())}
    document = {"setting": description, "results": results}
    write_text(choice.out / "results.json", json.dumps(document, indent=2) + "\n")
    write_text(choice.out / "table.md", report(results))
    plot(results, choice.out / "validation.png")
    print(report(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
