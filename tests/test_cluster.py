"""What is shipped for clusters: configurations that can be planned and trained, and the script."""

import os
import shutil
import subprocess
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


@pytest.mark.parametrize(
    ("status", "restarts", "again"),
    [(0, 0, False), (143, 0, True), (143, 9, True), (1, 0, True), (1, 2, True), (1, 3, False)],
)
def test_the_script_is_queued_again(
    tmp_path: Path, status: int, restarts: int, again: bool
) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    for name, body in {"srun": f'echo "$@"; exit {status}', "scontrol": 'echo again "$@"'}.items():
        (tmp_path / name).write_text(f"#!{bash}\n{body}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"CPUS_PER_TASK": 12, "NTASKS_PER_NODE": 8, "JOB_NUM_NODES": 2, "JOB_ID": 7}
    environment = {f"SLURM_{name}": str(value) for name, value in slurm.items()}
    environment |= {
        "SLURM_RESTART_COUNT": str(restarts),
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    words = [bash, str(SCRIPT), "x.yaml", "--steps", "3"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    command, *then = done.stdout.splitlines()
    assert (
        "hyena train --config x.yaml --resume true --devices 8 --num_nodes 2 --steps 3" in command
    )
    assert then == (["again requeue 7"] if again else [])
