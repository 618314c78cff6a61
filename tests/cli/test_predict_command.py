"""`hyena train --task`, `hyena evaluate` and `hyena predict`: labels, interruptions, bad input."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from labelled_rows import BYTES, TASKS, base_model, rows, sequences, write_table

import hyena
from hyena.cli import main
from hyena.model import LanguageModel
from hyena.training import read_metrics

Output = pytest.CaptureFixture[str]
SHORT = ["--steps=3", "--batch=4", "--labels.fraction=0.25", "--accelerator=cpu"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to begin with, a table for each task, and runs on them."""
    folder = tmp_path_factory.mktemp("labels")
    base_model(folder / "base")
    for task in TASKS:
        table = write_table(folder / f"{task}.tsv", rows(task, 24))
        words = ["train", f"--init={folder}/base", f"--task={task}", f"--data={table}"]
        assert main([*words, f"--out={folder}/{task}", *SHORT]) == 0
    return folder


def predicted(work: Path, task: str, texts: list[str], **options: Any) -> list[dict[str, Any]]:
    """What the Python call gives."""
    found = hyena.predict(hyena.load(work / task), BYTES, texts, **options)
    return [one.record() for one in found]


def test_train_takes_its_configuration_first(work: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["train", f"{work}/classification/train.yaml", f"--out={tmp_path}/again"]) == 0
    ends = [
        folder / "checkpoints/step-00000003"
        for folder in (work / "classification", tmp_path / "again")
    ]
    assert capsys.readouterr().out == f"{ends[1]}\n"
    files = [(end / "model.safetensors").read_bytes() for end in ends]
    assert files[0] == files[1]
    words = ["train", f"{work}/classification/train.yaml", "--resume=true", "--steps=4"]
    assert main([*words, f"--out={tmp_path}/again"]) == 0
    assert capsys.readouterr().out.endswith("step-00000004\n")


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["tsv", "jsonl", "fa"])
def test_labels_are_those_of_the_python_call(
    task: str, kind: str, work: Path, tmp_path: Path, capsys: Output
) -> None:
    texts = sequences(9, seed=5)
    file = tmp_path / f"a.{kind}"
    if kind == "tsv":
        write_table(file, [(text, "unused") for text in texts])
    elif kind == "jsonl":
        file.write_text("".join(json.dumps({"sequence": text}) + "\n" for text in texts))
    else:
        file.write_text("".join(f">{i}\n{text.lower()}\n" for i, text in enumerate(texts)))
    words = ["predict", f"{work}/{task}", str(file), "--both_strands=true", "--batch=4"]
    assert main(words) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = predicted(work, task, texts, both_strands=True, batch=4)
    assert len(printed) == len(expected) == 9
    for one, other in zip(printed, expected, strict=True):
        assert {**one, "name": ""} == {**other, "name": ""}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ending", ["jsonl", "tsv", "parquet"])
def test_a_file_has_the_labels_of_all_sequences(
    task: str, ending: str, work: Path, tmp_path: Path, capsys: Output
) -> None:
    texts = [*sequences(6, seed=5), "A" * 40]
    file, out = write_table(tmp_path / "a.tsv", [(x, 1) for x in texts]), tmp_path / f"p.{ending}"
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    words = ["predict", f"{work}/{task}", str(file), f"--out={out}", "--on_error=skip"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}: labels of 7 sequences\n"
    assert "note: skipped " in said.err
    expected = predicted(work, task, texts, on_error="skip")
    found = read(out)
    assert [int(one["index"]) for one in found] == list(range(7))
    for one, other in zip(found, expected, strict=True):
        for name in other.keys() - {"index", "name"}:
            value = one[name]
            if ending == "tsv" and isinstance(other[name], list):
                value = [float(x) for x in value.split(",")]
            elif ending == "tsv" and not isinstance(other[name], str):
                value = float(value)
            assert value == (
                other[name] if isinstance(other[name], str) else pytest.approx(other[name])
            )
    assert found[6]["skipped"].startswith("it has 40 tokens, but the model has room for 15")


def read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".tsv":
        with file.open(newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t"))
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text().splitlines()]
    import pyarrow.parquet as pq

    return pq.read_table(file).to_pylist()


def test_an_interrupted_command_goes_on_where_it_was(
    work: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.scoring.batches._WAITING", 2)
    left, through = [7], LanguageModel._enter

    def failing(self: LanguageModel, *inputs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return through(self, *inputs)

    file = write_table(tmp_path / "a.tsv", [(text, 1) for text in sequences(20, seed=5)])
    out = tmp_path / "p.tsv"
    words = ["predict", f"{work}/classification", str(file), f"--out={out}", "--batch=2"]
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModel, "_enter", failing)
        assert main(words) == 130
    assert not out.exists()
    assert "p.tsv.partial holds the results of " in capsys.readouterr().err
    assert main(words) == 0
    assert "note: going on after " in capsys.readouterr().err
    again = read(out)
    assert [int(one["index"]) for one in again] == list(range(20))


@pytest.mark.parametrize("task", TASKS)
def test_a_test_file_is_evaluated_as_in_training(
    task: str, work: Path, tmp_path: Path, capsys: Output
) -> None:
    test = write_table(tmp_path / "test.tsv", rows(task, 20, seed=3))
    words = ["train", f"--init={work}/base", f"--task={task}", f"--data={work}/{task}.tsv"]
    assert main([*words, f"--labels.validation={test}", f"--out={tmp_path}/run", *SHORT[:2]]) == 0
    record = read_metrics(tmp_path / "run/metrics.jsonl")[-1]
    capsys.readouterr()
    assert main(["evaluate", f"{tmp_path}/run", f"--data={test}", "--batch=3"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"{test}: 20 rows with labels"
    found = {name: (float(value), unit) for name, value, *unit in map(str.split, lines)}
    kept = {f"validation_{name}" for name in found}
    assert kept == {name for name in record if name.startswith("validation_")}
    for name, (value, unit) in found.items():
        assert value == pytest.approx(record[f"validation_{name}"], rel=1e-3, abs=1e-4), name
        of_loss = "squared deviations" if task == "regression" else "nats per label"
        assert unit == (of_loss.split() if name == "loss" else [])
    assert main(["evaluate", f"{tmp_path}/run", f"--data={test}", "--both_strands=true"]) == 0
    both = hyena.finetuning.evaluate_labels(
        hyena.load(tmp_path / "run"), BYTES, test, both_strands=True
    )
    assert f"{both.metrics['loss']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            "evaluate {run} --data {table} --length 8",
            1,
            "length has no effect: {table} is a table of rows with labels; leave it out",
        ),
        (
            "evaluate {run} --data {table} --labels.columns x",
            1,
            "line 2: no column 'x' among 'sequence', 'label'; name it with --labels.columns (lab",
        ),
        (
            "evaluate {work}/base --data {table} --both_strands true",
            1,
            "both_strands has no effect: it is of labels, and the model was not fine-tuned for a",
        ),
        (
            "evaluate {run} --data {work}/base --labels.sequence dna",
            1,
            "labels has no effect: it is of labels, and {work}/base is no table; leave it out",
        ),
        ("evaluate {run} --data absent.tsv", 1, "rows with labels were asked for in absent.tsv"),
        (
            "predict {work}/base {table}",
            1,
            "predict: the model has no head for labels; train one w",
        ),
        ("predict {run} {table} --out a.txt", 1, "out: expected a file that ends in .jsonl, .parq"),
        ("predict {run} {table} --field x", 1, "no column 'x'; it has 'sequence', 'label'"),
        ("predict {run}", 2, "required and not given: --input"),
        (
            "train --init {work}/base --task classification --data {bad} --out n",
            1,
            "bad.tsv line 3",
        ),
        (
            "train --init {work}/base --task regression --data {table} --out n",
            1,
            "expected a finite",
        ),
        (
            "train --init {work}/base --task x --data {table} --out n",
            2,
            "task: expected one of 'la",
        ),
        (
            "train --init {work}/base --task classification --data {work}/base --out n",
            1,
            "rows with",
        ),
        (
            "train --task classification --data {table} --out n",
            1,
            "no tokenizer is saved with a mo",
        ),
    ],
)
def test_a_mistake_is_one_line(
    words: str,
    code: int,
    message: str,
    work: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    bad = write_table(tmp_path / "bad.tsv", [("ACG", "a"), ("", "b")] * 2)
    names = {"run": work / "classification", "table": work / "classification.tsv", "bad": bad}
    assert main(words.format(work=work, **names).split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message.format(work=work, **names) in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["bad.tsv"]


def test_the_columns_of_the_training_are_taken_unless_others_are_named(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    table = write_table(tmp_path / "a.tsv", rows("classification", 12), "dna kind")
    words = ["train", f"--init={work}/base", "--task=classification", f"--data={table}"]
    named = ["--labels.sequence=dna", "--labels.columns=kind"]
    assert main([*words, *named, f"--out={tmp_path}/run", *SHORT]) == 0
    capsys.readouterr()
    assert main(["predict", f"{tmp_path}/run", str(table)]) == 0
    expected = capsys.readouterr().out
    assert expected.count("\n") == 12
    assert main(["predict", f"{tmp_path}/run", str(table), "--field=dna"]) == 0
    assert capsys.readouterr().out == expected
    assert main(["evaluate", f"{tmp_path}/run", f"--data={table}"]) == 0
    assert "12 rows with labels" in capsys.readouterr().out
    other = write_table(tmp_path / "b.tsv", rows("classification", 12), "bases kind")
    for words in (["predict", f"{tmp_path}/run", str(other)], ["evaluate", f"{tmp_path}/run"]):
        words += [f"--data={other}"] if words[0] == "evaluate" else []
        assert main(words) == 1
        assert "no column 'dna'" in capsys.readouterr().err
    # The head is trained further, since its labels are the same; the columns are the new ones.
    words = ["train", f"--init={tmp_path}/run", "--task=classification", f"--data={other}"]
    again = ["--labels.sequence=bases", "--labels.columns=kind", f"--out={tmp_path}/again"]
    assert main([*words, *again, *SHORT]) == 0
    assert "head for labels, which is left out" not in capsys.readouterr().err
    assert main(["predict", f"{tmp_path}/again", str(other)]) == 0


def test_other_commands_take_a_model_with_a_head(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("ACGT\nGGCC\n")
    run = str(work / "classification")
    for words in (
        ["score", run, str(file)],
        ["embed", run, str(file), f"--out={tmp_path}/v.npz"],
        ["generate", run, "--prompt=AC", "--max_new_tokens=2"],
        ["info", run],
        ["plot", run, f"--out={tmp_path}/drawings"],
        ["distill", run, f"--out={tmp_path}/d", "--state=4"],
    ):
        assert main(words) == 0, words
    capsys.readouterr()
    assert main(["predict", f"{tmp_path}/d", str(file), "--field=text"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("task", "unit"),
    [*zip(TASKS, ["nats per label", "squared deviations", "nats per label"], strict=True)],
)
def test_a_loss_is_drawn_in_its_unit(
    task: str, unit: str, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    monkeypatch.setattr("hyena.cli.plot.draw_loss", lambda *_, unit: drawn.append(unit))
    assert main(["plot", f"{work}/{task}", f"--out={tmp_path}"]) == 0
    assert drawn == [unit]
