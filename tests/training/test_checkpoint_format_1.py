"""A training checkpoint of format version 1 resumes for ever."""

import shutil
from pathlib import Path

from tiny_runs import tiny_config

from hyena.training import read_metrics, train

DATA = Path(__file__).parent.parent / "data" / "format_1"
SAMPLE = Path(__file__).parent / "format_1"


def test_a_run_saved_in_version_1_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(SAMPLE, run)
    config = tiny_config(DATA, run, length=4, batch=2, resume=True)
    result = train(config)
    assert result.step == config.steps
    steps = [record["step"] for record in read_metrics(run / "metrics.jsonl")]
    assert steps == list(range(1, config.steps + 1))
