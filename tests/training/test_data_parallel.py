"""Two processes over gloo train as one; what the ranks wrote is what counts."""

from pathlib import Path

import pytest
from tiny_runs import MakeConfig, run_script, tensors

from hyena.training import read_metrics, train

SCRIPT = """
import os, sys
from pathlib import Path

from hyena.training import train
from tiny_runs import tiny_config

data, out, precision = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
before = {name: os.environ.get(name) for name in ("LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")}
for steps in (1, 4):
    config = tiny_config(data, out / str(steps), steps=steps, devices=2, precision=precision)
    train(config)
assert {name: os.environ.get(name) for name in before} == before
sys.stdout.flush()
os._exit(0)
"""


def compare(make: MakeConfig, out: Path, precision: str, bound: float) -> None:
    """One and four steps by two processes in ``out`` against the same by one."""
    for steps in (1, 4):
        config = make(f"one-{steps}", steps=steps, precision=precision)
        checkpoint = train(config).checkpoint
        ones = read_metrics(config.out / "metrics.jsonl")
        twos = read_metrics(out / str(steps) / "metrics.jsonl")
        assert [r["step"] for r in twos] == [r["step"] for r in ones]
        for one, two in zip(ones, twos, strict=True):
            for name in ("loss", "validation_loss", "grad_norm"):
                if name in one:
                    assert abs(one[name] - two[name]) <= bound * abs(one[name]), (name, one, two)
        left, right = (
            tensors(checkpoint),
            tensors(out / str(steps) / "checkpoints" / checkpoint.name),
        )
        assert left.keys() == right.keys()
        if steps == 1:  # the first moment is a tenth of the gradient
            moments = [name for name in left if name.endswith(".exp_avg")]
            largest = max(float(left[name].norm()) for name in moments)
            for name in moments:
                assert float((left[name] - right[name]).norm()) <= bound * largest, name


@pytest.mark.parametrize(("precision", "bound"), [("32", 1e-6), ("64", 1e-12)])
def test_two_processes_equal_one(
    make: MakeConfig, data: Path, tmp_path: Path, precision: str, bound: float
) -> None:
    run_script(SCRIPT, data, tmp_path / "two", precision, folder=tmp_path)
    compare(make, tmp_path / "two", precision, bound)


def test_torchrun(make: MakeConfig, data: Path, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    launcher = f"""
import runpy, sys
sys.argv[1:] = ["--standalone", "--nproc-per-node=2", {str(script)!r}, *sys.argv[1:]]
runpy.run_module("torch.distributed.run", run_name="__main__")
"""
    run_script(launcher, data, tmp_path / "two", "64", folder=tmp_path)
    compare(make, tmp_path / "two", "64", 1e-12)


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

from hyena.training import train, worker
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


@pytest.mark.timeout(90)
def test_a_worker_that_fails_is_named_with_its_reason(data: Path, tmp_path: Path) -> None:
    printed = run_script(FAILING, data, tmp_path, folder=tmp_path)
    assert "process 1 of the run stopped: token files were asked for in" in printed
