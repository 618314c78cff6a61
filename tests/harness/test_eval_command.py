"""`hyena eval`: what it prints and writes, when it is interrupted, and of bad input."""

import json
import math
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness_models import BYTES, TEXTS, requests_of

import hyena
from hyena.cli import main
from hyena.harness import HyenaLM

Output = pytest.CaptureFixture[str]


def bits_per_byte(file: Path) -> float:
    found: float = json.loads(file.read_text())["results"]["texts"]["bits_per_byte,none"]
    return found


@pytest.fixture
def words(saved: Path, texts: Path) -> list[str]:
    return ["eval", str(saved), "--tasks=texts", f"--include_path={texts}"]


def test_a_table_is_printed_and_results_are_written(
    words: list[str], tmp_path: Path, capsys: Output, model: hyena.LanguageModel
) -> None:
    assert main(words) == 0
    table = capsys.readouterr().out
    heading, row = table.splitlines()
    columns = ["task", "documents", "shots", "metric", "value", "standard", "error"]
    assert heading.split() == columns
    assert row.split()[:4] == ["texts", "3", "0", "bits_per_byte"]
    out = tmp_path / "new" / "results.json"
    assert main([*words, f"--out={out}"]) == 0
    assert capsys.readouterr().out == f"{table}{out}\n"
    assert [path.name for path in out.parent.iterdir()] == ["results.json"]
    total = sum(HyenaLM(model, BYTES).loglikelihood_rolling(requests_of(*((t,) for t in TEXTS))))
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert bits_per_byte(out) == pytest.approx(-total / math.log(2) / n_bytes)
    assert f"{bits_per_byte(out):.4f}" in table
    assert main([*words, f"--out={out}"]) == 1
    assert "is there already; remove it, or choose another file" in capsys.readouterr().err


def test_bits_per_byte_can_be_those_of_evaluate(
    words: list[str], saved: Path, tmp_path: Path, capsys: Output
) -> None:
    file, out = tmp_path / "texts.jsonl", tmp_path / "results.json"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert main(["evaluate", str(saved), f"--data={file}", "--length=20", "--stride=5"]) == 0
    said = capsys.readouterr().out
    options = ["--length=20", "--stride=5", "--end=true", "--batch=2"]
    assert main([*words, *options, f"--out={out}"]) == 0
    assert f"bits per byte  {bits_per_byte(out):.4f}" in said


def test_every_option_arrives(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    options: dict[str, Any] = {
        "num_fewshot": 0,
        "limit": 2,
        "length": 40,
        "stride": 7,
        "begin": "false",
        "end": "true",
        "batch": 3,
        "seed": 9,
        "length_policy": "extrapolate",
        "tokenizer": "bytes",
        "accelerator": "cpu",
        "kept_memory": 0,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    assert main([*words, *given, f"--out={out}"]) == 0
    config = json.loads(out.read_text())["config"]
    expected = {"limit": 2, "max_length": 40, "stride": 7, "begin": False, "end": True, "seed": 9}
    assert {name: config[name] for name in expected} == expected


def test_an_interrupted_command_goes_on_where_it_was(
    words: list[str],
    saved: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, batch = tmp_path / "results.json", HyenaLM._batch
    left = 2

    def failing(self: HyenaLM, rows: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return batch(self, rows)

    monkeypatch.setattr(HyenaLM, "_batch", failing)
    whole = [*words, "--batch=1", f"--out={out}"]
    assert main(whole) == 130
    partial = tmp_path / "results.json.partial"
    held = f"note: {partial} holds the results of 2 answers; the same command goes on from there\n"
    assert held in capsys.readouterr().err
    assert not out.exists()
    assert main([*whole, "--end=true"]) == 1
    assert "other results: end was False, is True; remove" in capsys.readouterr().err
    left = 2  # of the four windows of the three texts: one text is whole, or the last two
    assert main(whole) == 0
    assert f"note: going on after 2 answers that {partial} holds" in capsys.readouterr().err
    again = bits_per_byte(out)
    assert not partial.exists()
    out.unlink()
    left = 9
    assert main(whole) == 0
    assert bits_per_byte(out) == pytest.approx(again, rel=1e-12)


def test_samples_are_written_beside_the_results(
    words: list[str], tmp_path: Path, capsys: Output
) -> None:
    out = tmp_path / "new" / "results.json"
    whole = [*words, "--log_samples=true", f"--out={out}"]
    assert main(whole) == 0
    file = out.parent / "samples_texts_results.jsonl"
    assert capsys.readouterr().out.endswith(f"{file}\n{out}\n")
    assert {path.name for path in out.parent.iterdir()} == {file.name, out.name}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["doc"]["text"] for row in rows] == [*TEXTS]
    assert [row["bits_per_byte"][1] for row in rows] == [len(text) for text in TEXTS]
    assert "samples" not in json.loads(out.read_text())
    out.unlink()
    assert main(whole) == 1
    assert f"error: {file} is there already; remove it" in capsys.readouterr().err
    assert not out.exists()


def test_a_text_whose_first_token_is_not_scored_is_told(words: list[str], capsys: Output) -> None:
    assert main([*words, "--begin=false"]) == 0
    assert (
        "note: 3 texts begin without the end of text (begin=false), so that their first token is "
        "not scored: compare these figures with none of begin=true\n"
    ) in capsys.readouterr().err


def test_numbers_that_are_not_finite_are_null(
    words: list[str], texts: Path, tmp_path: Path, capsys: Output
) -> None:
    out, task = tmp_path / "results.json", texts / "texts.yaml"
    more = "metric_list:\n- metric: word_perplexity"
    task.write_text(task.read_text().replace("metric_list:", more))
    (texts / "texts.jsonl").write_text(json.dumps({"text": "ACGT" * 200}) + "\n")
    assert main([*words, f"--out={out}"]) == 0
    said, notes = capsys.readouterr()
    assert "inf" in said
    found = json.loads(out.read_text())["results"]["texts"]
    assert found["word_perplexity,none"] is None
    assert found["bits_per_byte,none"] > 0
    assert "note: [Task: texts] metric word_perplexity is defined, but aggregation is not." in notes


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--tasks=tetxs"], 1, "error: there is no task tetxs; did you mean texts? "),
        (["--include_path=nowhere"], 1, "error: include_path: nowhere is no folder with files of"),
        (["--out=results.txt"], 1, "error: out: expected a file that ends in .json, got results.t"),
        (
            ["--length=99"],
            1,
            "error: max_length: expected at most the model's own, 48, got 99;",
        ),
        (["--log_samples=true"], 1, "error: log_samples: the files stand beside that of --out; gi"),
        (["--limit=0"], 1, "error: limit: expected a number of documents or a share, got 0"),
        (["--batch=0"], 1, "error: batch_size: expected at least 1, got 0"),
        (["--task=x"], 2, 'error: unknown option "task"; did you mean "tasks"?'),
    ],
)
def test_a_mistake_is_one_line(
    given: list[str],
    code: int,
    message: str,
    words: list[str],
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "none" / "manager.py"))
    tasks = [word for word in words if given[0].split("=")[0] != word.split("=")[0]]
    assert main([*tasks, *given]) == code
    assert capsys.readouterr().err.splitlines()[-1].startswith(message)


def test_an_early_error_leaves_nothing(words: list[str], tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "new" / "results.json"
    out.parent.mkdir()
    assert main([*words, "--limit=-1", f"--out={out}"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: limit: expected a number")
    assert list(out.parent.iterdir()) == []


def test_tasks_are_required(saved: Path, capsys: Output) -> None:
    assert main(["eval", str(saved)]) == 2
    assert "required and not given: --tasks" in capsys.readouterr().err


def test_without_lm_eval_it_says_what_to_install(
    words: list[str], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(words) == 1
    assert capsys.readouterr().err == (
        "error: hyena eval needs the package 'lm_eval', which is not installed; pip install "
        "'hyena[eval]'\n"
    )


@pytest.fixture
def lm_eval_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Runs `python -m hyena.harness` with these words, in this process."""
    (tmp_path / "none").mkdir()
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "none" / "manager.py"))
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # it takes seconds
    monkeypatch.setattr("lm_eval.__main__.setup_logging", lambda: None)  # of all tests after it
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # as it does, but put back

    def run(words: str) -> None:
        monkeypatch.setattr(sys, "argv", ["lm_eval", *words.split()])
        runpy.run_module("hyena.harness", run_name="__main__")

    return run


def test_lm_evals_own_program_knows_the_model(
    saved: Path,
    texts: Path,
    tmp_path: Path,
    capsys: Output,
    lm_eval_program: Callable[[str], None],
) -> None:
    options = f"--model hyena --model_args pretrained={saved},stride=5,end=true,max_length=20"
    lm_eval_program(f"{options} --tasks texts --include_path {texts} --batch_size 4")
    out = tmp_path / "results.json"
    same = ["--stride=5", "--end=true", "--length=20", f"--include_path={texts}", f"--out={out}"]
    table = capsys.readouterr().out
    assert main(["eval", str(saved), "--tasks=texts", *same]) == 0
    found = re.search(r"bits_per_byte[^\d]*([\d.]+)", table)
    assert found is not None
    assert float(found[1]) == pytest.approx(bits_per_byte(out), abs=0.01)


def test_a_mistake_in_lm_evals_own_program_is_one_line(
    saved: Path, texts: Path, lm_eval_program: Callable[[str], None]
) -> None:
    for given, message in (
        (f"pretrained={saved},strid=5", "error: model_args: there is no 'strid'; did you mean str"),
        (f"pretrained={saved},stride=99", "error: stride: expected at most 48, got 99"),
        ("pretrained=nowhere", "error: "),
    ):
        with pytest.raises(SystemExit, match=f"^{re.escape(message)}.*$"):
            lm_eval_program(
                f"--model hyena --model_args {given} --tasks texts --include_path {texts}"
            )
