"""`hyena train` from a saved model, through several lengths, and with more steps."""

import re
from pathlib import Path

import pytest
import yaml
from finished_run import finished_run

import hyena
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


def test_a_model_has_the_ids_of_its_data_unless_another_number_is_given(
    tmp_path: Path, capsys: Output
) -> None:
    (tmp_path / "g.fa").write_text(f">a\n{'ACGT' * 40}\n>b\n{'GATTACA' * 20}\n")
    words = ["prepare", f"{tmp_path}/g.fa", f"--out={tmp_path}/data", "--tokenizer=hyenadna"]
    assert main([*words, "--split_by=record:b"]) == 0
    train = ["train", f"--data={tmp_path}/data", *TINY, "--steps=1", "--evaluation.every=0"]
    note = (
        "model.vocab_size is 40, but tokenizer hyenadna has 12 ids: the loss counts the others as "
        "well; leave it out to have as many"
    )
    for out, given, size in (
        ("own", [], 12),
        ("same", ["--model.vocab_size=12"], 12),
        ("more", ["--model.vocab_size=40"], 40),
    ):
        capsys.readouterr()
        assert main([*train, *given, f"--out={tmp_path}/{out}"]) == 0
        printed, err = capsys.readouterr()
        assert hyena.load(Path(printed.strip())).config.vocab_size == size
        assert (note in err) == (size == 40)
    again = ["train", f"--config={tmp_path}/own/train.yaml", "--resume=true", "--steps=2"]
    assert main(again) == 0
    capsys.readouterr()
    file = tmp_path / "own.yaml"
    file.write_text(f"data: {tmp_path}/data\nout: o\nmodel: {{width: 8, layers: 1}}\n")
    assert main(["info", str(file)]) == 0
    assert re.search(r"^  vocab_size +12$", capsys.readouterr().out, re.MULTILINE)


def test_a_model_has_the_ids_of_the_tokenizer_of_its_rows(tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("sequence\tlabel\n" + "ACGT\ta\nGGCC\tb\n" * 4)
    words = ["train", f"--data={file}", "--task=classification", "--labels.tokenizer=hyenadna"]
    assert main([*words, *TINY, "--steps=1", f"--out={tmp_path}/run"]) == 0
    assert hyena.load(Path(capsys.readouterr().out.strip())).config.vocab_size == 12
