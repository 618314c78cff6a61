"""Two processes over gloo train as one; what the ranks wrote is what counts."""

from pathlib import Path

import pytest
from tiny_runs import MakeConfig, run_script, tensors

from hyena.training import CheckpointConfig, read_metrics, train
from hyena.training.metrics import FILE

SCRIPT = """
import os, sys
from pathlib import Path

from hyena.training import CheckpointConfig, train
from tiny_runs import tiny_config

data, out, precision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
before = {name: os.environ.get(name) for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
accumulate = 2 if precision == "64" else 1
config = tiny_config(data, out, steps=4, precision=precision, accumulate=accumulate)
config.devices, config.checkpoint = 2, CheckpointConfig(every=1, keep=9)
config.evaluation.batches *= accumulate  # of half as many windows each
train(config)
assert {name: os.environ.get(name) for name in before} == before
sys.stdout.flush()
os._exit(0)
"""

BOUNDS = {"32": 1e-6, "64": 1e-12}


def compare(make: MakeConfig, out: Path, precision: str) -> None:
    """Four steps by two processes in ``out`` against the same by one."""
    bound = BOUNDS[precision]
    one = make(precision, steps=4, precision=precision, checkpoint=CheckpointConfig(1, 9)).out
    train(make(precision, steps=4, precision=precision, checkpoint=CheckpointConfig(1, 9)))
    pairs = zip(read_metrics(one / FILE), read_metrics(out / FILE), strict=True)
    for left, right in pairs:
        assert left.keys() == right.keys()
        assert left["tokens"] == right["tokens"]
        for name in {"loss", "validation_loss", "grad_norm"} & left.keys():
            assert abs(left[name] - right[name]) <= bound * left[name], (name, left, right)
    # After one step the first moment is a tenth of the gradient.
    first = tensors(one / "checkpoints/step-00000001")
    other = tensors(out / "checkpoints/step-00000001")
    assert first.keys() == other.keys()
    moments = [name for name in first if name.endswith(".exp_avg")]
    largest = max(float(first[name].norm()) for name in moments)
    for name in moments:
        assert float((first[name] - other[name]).norm()) <= bound * largest, name


def test_two_processes_equal_one(make: MakeConfig, data: Path, tmp_path: Path) -> None:
    run_script(SCRIPT, data, tmp_path / "two", "32", folder=tmp_path)
    compare(make, tmp_path / "two", "32")


def test_torchrun(make: MakeConfig, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    launcher = f"""
import runpy, sys
sys.argv[1:] = ["--standalone", "--nproc-per-node=2", {str(script)!r}, *sys.argv[1:]]
runpy.run_module("torch.distributed.run", run_name="__main__")
"""
    run_script(launcher, data, tmp_path / "two", "64", folder=tmp_path)
    compare(make, tmp_path / "two", "64")


def test_a_launcher_with_another_number_of_processes_is_refused(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LOCAL_RANK", "0"), ("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="the launcher started 2 processes, but devices x num_no"):
        train(make())


FAILING = """
import os, sys
from pathlib import Path

from hyena.training import train
from tiny_runs import tiny_config

data, folder = Path(sys.argv[1]), Path(sys.argv[2])
missing = folder / "missing"
missing.symlink_to(data)
config = tiny_config(missing, folder / "out", devices=2)

import hyena.training.launch as launch
start = launch._start_workers
def and_lose_the_data(config):
    missing.unlink()
    return start(config)
launch._start_workers = and_lose_the_data
try:
    train(config)
except RuntimeError as error:
    print(error)
sys.stdout.flush()
os._exit(0)
"""


def test_a_worker_that_fails_is_named_with_its_reason(data: Path, tmp_path: Path) -> None:
    printed = run_script(FAILING, data, tmp_path, folder=tmp_path)
    assert "process 1 of the run stopped: token files were asked for in" in printed
