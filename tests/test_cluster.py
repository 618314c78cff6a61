"""What is shipped for clusters: configurations that can be planned and trained, and the script."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from hyena.files.records import from_plain
from hyena.model import PRESETS
from hyena.training import TrainConfig
from hyena.training.plan import plan_run

FOLDER = Path(__file__).parent.parent / "configs" / "cluster"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
SCRIPT = FOLDER / "train.sbatch"
MODELS = {"153M": "153M", "355M": "355M", "1.3B": "1.3B", "million": "hyenadna-large-1m"}


def of(path: Path) -> TrainConfig:
    return from_plain(TrainConfig, {**yaml.safe_load(path.read_text()), "data": "no/such/data"})


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_can_be_run_and_is_the_model_of_its_name(path: Path) -> None:
    plan = plan_run(of(path))
    assert plan.layout.processes == 8 * of(path).num_nodes
    assert of(path).model == PRESETS[MODELS[path.stem]]
    assert plan.memory.state < 80e9


def test_all_are_there() -> None:
    assert {path.stem for path in CONFIGS} == MODELS.keys()


@pytest.fixture
def end(tmp_path: Path) -> Callable[..., bool]:
    """Runs the script with a stand-in for Slurm; says whether the job is queued again."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    scontrol = '[ "$1" = show ] && echo "JobState=$STATE" || echo again "$@"'
    for name, body in {"srun": 'echo "$@"; exit $STATUS', "scontrol": scontrol}.items():
        (tmp_path / name).write_text(f"#!{bash}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"CPUS_PER_TASK": 12, "NTASKS_PER_NODE": 8, "JOB_NUM_NODES": 2, "JOB_ID": 7}
    environment = {f"SLURM_{name}": str(value) for name, value in slurm.items()}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    words = [bash, str(SCRIPT), "x.yaml", "--steps", "3"]
    train = "hyena train --config x.yaml --resume true --devices 8 --num_nodes 2 --steps 3"

    def run(status: int, state: str = "RUNNING") -> bool:
        variables = {**environment, "STATUS": str(status), "STATE": state}
        done = subprocess.run(words, env=variables, cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (status, "")
        command, *then = done.stdout.splitlines()
        assert train in command
        assert then in ([], ["again requeue 7"])
        return bool(then)

    return run


def test_the_script_is_queued_again(end: Callable[..., bool], tmp_path: Path) -> None:
    assert [end(1) for _ in range(3)] == [True] * 3
    assert end(143)  # its time is over: it went on until then
    assert [end(status) for status in (1, 1, 143, 1, 1, 1, 1)] == [True] * 6 + [False]
    assert not end(0)
    assert not list(tmp_path.glob("*.failures"))


def test_a_job_that_was_cancelled_is_not_queued_again(end: Callable[..., bool]) -> None:
    assert not end(143, "CANCELLED")
    assert not end(1, "CANCELLED")
