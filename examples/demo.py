"""From speeches to a language model that writes, by the commands that a user would type.

Prepares 249 State of the Union addresses, trains a byte-level Hyena model (stopping and resuming
once on the way), evaluates it on documents it has not seen, draws its loss curve and its filters,
and lets it write. About ten minutes on two CPU cores. An interrupted demo goes on where it was.

    python examples/demo.py            # data/sotu and runs/demo
    python examples/demo.py --quick    # a few steps of a small model: shows the way, not the result
"""

import argparse
import contextlib
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
QUICK = [
    *("--model.width=32", "--model.layers=2", "--model.max_length=64", "--batch=4", "--steps=8"),
    *("--schedule.warmup_steps=2", "--evaluation.every=4", "--evaluation.batches=2"),
]


def hyena(*words: str) -> None:
    """Shows a command and runs it."""
    print(f"\n$ hyena {shlex.join(words)}", flush=True)
    process = subprocess.Popen([sys.executable, "-m", "hyena", *words])
    while process.returncode is None:
        with contextlib.suppress(KeyboardInterrupt):  # the command gets it too, saves and ends
            process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="train a Hyena language model and read what it writes"
    )
    parser.add_argument("--quick", action="store_true", help="a few steps of a small model")
    parser.add_argument("--data", default="data/sotu", help="folder for the token files")
    parser.add_argument("--out", help="folder for the run; runs/demo, or runs/demo-quick")
    choice = parser.parse_args()
    choice.out = choice.out or ("runs/demo-quick" if choice.quick else "runs/demo")

    start = time.monotonic()
    settings = [f"--data={choice.data}", f"--out={choice.out}", *(QUICK if choice.quick else [])]
    train = ["train", "--config", str(ROOT / "configs/demo.yaml"), *settings, "--resume=true"]
    half = "4" if choice.quick else "1100"
    try:
        hyena("prepare", "sotu", "--out", choice.data)
        if not (Path(choice.out) / "checkpoints").exists():
            print("\n# Half of the training, then a stop …")
            hyena(*train, f"--stop_after={half}")
        print("\n# … and the rest: a resumed run is bit for bit the uninterrupted one.")
        hyena(*train)
        evaluation = ["--batch=256", "--stride=64"] if choice.quick else []
        hyena("evaluate", choice.out, "--data", choice.data, "--split", "test", *evaluation)
        hyena("plot", choice.out)
        new = "24" if choice.quick else "420"
        prompt = "The people of the United States"
        hyena(
            "generate", choice.out, "--prompt", prompt, "--max_new_tokens", new,
            "--temperature", "0.7",
        )  # fmt: skip
    except subprocess.CalledProcessError as failed:
        return failed.returncode  # the command has said why
    minutes = (time.monotonic() - start) / 60
    print(f"\nDone in {minutes:.1f} minutes. Look at loss.png and filters.png in {choice.out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
