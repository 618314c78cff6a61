"""One real training step of a preset at its full length: tokens a second and peak memory.

Each case runs in a process of its own, so that its peak resident memory is its own.

    python benchmarks/train_step.py --out benchmarks/results/train-step_HARDWARE_DATE
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.nn import functional as F

from hyena import LanguageModel, preset
from hyena.files.atomic import write_text
from hyena.files.markdown import table
from hyena.machine import setting
from hyena.training.optimizer import OptimizerConfig, adamw

CASES = [
    {"mixers": "hyena", "activation_checkpointing": False},
    {"mixers": "hyena", "activation_checkpointing": True},
    {"mixers": "attention", "activation_checkpointing": False},
]


def measure(name: str, case: dict, batch: int, steps: int, report: Connection) -> None:
    config = preset(name, mixers=case["mixers"])
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0))
    model.activation_checkpointing = case["activation_checkpointing"]
    optimizer = adamw(model, OptimizerConfig())
    generator = torch.Generator().manual_seed(1)
    seconds = []
    for _ in range(steps + 1):  # the first one warms up
        shape = (batch, config.max_length + 1)
        ids = torch.randint(config.vocab_size, shape, generator=generator)
        start = time.perf_counter()
        logits = model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
        print(f"{name} {case}: {seconds[-1]:.1f} s, loss {loss.item():.3f}", flush=True)
    median = statistics.median(seconds[1:])
    report.send(
        {
            **case,
            "parameters": model.parameter_count(),
            "batch": batch,
            "length": config.max_length,
            "seconds_per_step": median,
            "spread_seconds": [min(seconds[1:]), max(seconds[1:])],
            "tokens_per_second": batch * config.max_length / median,
            "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        }
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="one training step of a preset")
    parser.add_argument("--preset", default="125M")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder for table and JSON")
    choice = parser.parse_args()

    spawn = multiprocessing.get_context("spawn")
    rows = []
    for case in CASES:
        receiver, sender = spawn.Pipe(duplex=False)
        arguments = (choice.preset, case, choice.batch, choice.steps, sender)
        process = spawn.Process(target=measure, args=arguments)
        process.start()
        sender.close()
        rows.append(receiver.recv())  # raises EOFError if the process died
        process.join()

    description = {**setting(), "preset": choice.preset}
    document = {"setting": description, "results": rows}
    write_text(choice.out / "results.json", json.dumps(document, indent=2) + "\n")
    lines = [
        [
            *("mixer", "checkpointing", "parameters", "tokens a step"),
            *("s a step (median, min-max)", "tokens/s", "peak memory, GiB"),
        ]
    ]
    for row in rows:
        low, high = row["spread_seconds"]
        lines.append(
            [
                *(row["mixers"], "yes" if row["activation_checkpointing"] else "no"),
                *(f"{row['parameters']:,}", f"{row['batch'] * row['length']:,}"),
                f"{row['seconds_per_step']:.2f} ({low:.2f}-{high:.2f})",
                *(f"{row['tokens_per_second']:.0f}", f"{row['peak_memory_gib']:.1f}"),
            ]
        )
    write_text(choice.out / "table.md", table(lines) + "\n")
    print(table(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
