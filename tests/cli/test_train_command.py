"""`hyena train` from a saved model, through several lengths, and with more steps."""

from pathlib import Path

import pytest
import yaml
from finished_run import finished_run

from hyena.cli import main
from hyena.training import read_metrics, read_training_state

Output = pytest.CaptureFixture[str]
TINY = ["--model.width=8", "--model.layers=1", "--model.max_length=32", "--batch=2"]
SHORT = ["--steps=4", "--evaluation.every=2", "--evaluation.batches=1", "--checkpoint.every=2"]
LENGTHS = "[{length: 16, steps: 3}, {length: 32, steps: 1}]"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("work"), *TINY, *SHORT)


def test_it_begins_with_a_run_freezes_goes_through_lengths_and_on(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "tuned"
    words = ["train", "--init", f"{work}/run", "--data", f"{work}/data", "--out", str(out)]
    frozen = ["--freeze", "embedding.*", "--freeze", "blocks.[0].norm?.*"]
    assert main([*words, *frozen, "--lengths", LENGTHS, "--batch=2", *SHORT]) == 0
    checkpoint = Path(capsys.readouterr().out.strip())
    config = read_training_state(checkpoint).config
    assert config["freeze"] == ["embedding.*", "blocks.[0].norm?.*"]
    assert config["model"]["width"] == 8
    assert main(["train", "--config", f"{out}/train.yaml", "--resume=true", "--steps=6"]) == 0
    records = read_metrics(out / "metrics.jsonl")
    assert [record["length"] for record in records] == [16, 16, 16, 32, 32, 32]
    assert records[4]["lr"] == records[5]["lr"] == pytest.approx(6e-5)
    resumed = yaml.safe_load((out / "train.yaml").read_text())
    assert (resumed["steps"], resumed["schedule"]["steps"]) == (6, 4)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--freeze=nothing", "freeze: 'nothing' matches no parameter"),
        ("--model.width=16", "model.width is 8 there, not 16"),
        (
            "--length=64",
            "length is 64, but model.max_length is 32; lower length, or choose another",
        ),
        ("--lengths=[{length: 16, steps: 3}]", "lengths has 3 steps, but steps is 4"),
        ("--lengths=[{size: 16}]", 'lengths: unknown option "size"; choose from length, steps'),
    ],
)
def test_a_mistake_is_one_line(
    work: Path, tmp_path: Path, capsys: Output, option: str, message: str
) -> None:
    words = ["train", "--init", f"{work}/run", "--data", f"{work}/data", "--out", f"{tmp_path}/x"]
    assert main([*words, *SHORT, option]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()
