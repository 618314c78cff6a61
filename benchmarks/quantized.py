"""Bits per byte of a saved model with weights of fewer bits, on documents that it has not seen.

    python benchmarks/quantized.py runs/demo --data data/sotu --split test

Windows are as long as the model's filters, with a stride of half of it, as `hyena evaluate` takes
them. The int8 weights are torchao's: pip install 'hyena[quantization]'.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import hyena
from hyena.bench.generation.models import read_bytes
from hyena.bench.generation.weights import TOLERANCES, narrowed, why_not
from hyena.data import open_tokens
from hyena.evaluation import evaluate
from hyena.files.markdown import table


def row(model: Path, weights: str, data: Path, split: str) -> list[str]:
    """A line of the table."""
    narrow = narrowed(hyena.load(model), weights)
    length = narrow.config.max_length
    documents = open_tokens(data, split).documents()
    found = evaluate(narrow, documents, length=length, stride=max(1, length // 2))
    size = f"{read_bytes(narrow) / 2**20:.2f}"
    return [weights or "float32", size, f"{found.bits_per_byte:.4f}"]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="bits per byte with weights of fewer bits")
    parser.add_argument("model", type=Path, help="a run, one of its checkpoints, or a saved model")
    parser.add_argument("--data", type=Path, required=True, help="written by `hyena prepare`")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    choice = parser.parse_args(arguments)
    rows = [["weights", "MiB outside of filters", "bits per byte"]]
    try:
        for weights in ("", *TOLERANCES):
            if why := why_not(f"model_{weights}"):
                print(f"quantized: {weights} {why}", file=sys.stderr)
                continue
            rows.append(row(choice.model, weights, choice.data, choice.split))
    except (OSError, ValueError) as error:
        sys.exit(f"quantized: {error}")
    print(table(rows))


if __name__ == "__main__":
    main()
