"""`hyena tasks` as a user meets it."""

import json
import re
import shlex
import signal
from pathlib import Path

import pytest
from cells_here import Here

from hyena.cli import main
from hyena.cli.tasks import show as show_module
from hyena.experiments import sweep as sweep_module
from hyena.tasks import TASKS
from hyena.training import loop

Output = pytest.CaptureFixture[str]
TINY = shlex.split(
    "--task.length 8 --task.vocab_size 6 --model.width 8 --model.layers 1 --model.mlp_width 8 "
    "--model.filter.width 4 --training.steps 4 --training.batch 2 --training.evaluate_every 2 "
    "--training.validation_sequences 4 --training.test_sequences 4 --threads 1"
)


def test_list_names_the_tasks(capsys: Output) -> None:
    assert main(["tasks", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_show_prints_prompts_with_answers(task: str, capsys: Output) -> None:
    assert main(["tasks", "show", task, "--count", "2"]) == 0
    first = capsys.readouterr().out
    assert first.count("→") >= 2
    assert re.search(r"\d+ positions of .* each; \d+% of all prompts are for the test", first)
    assert main(["tasks", "show", task, "--count", "2"]) == 0
    assert capsys.readouterr().out == first
    assert main(["tasks", "show", task, "--count", "2", "--split", "test"]) == 0
    assert capsys.readouterr().out != first


def test_show_prints_as_many_prompts_as_asked_for(
    capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_module, "AT_ONCE", 3)
    assert main(["tasks", "show", "recall", "--task.length", "8", "--count", "7"]) == 0
    prompts = [line for line in capsys.readouterr().out.splitlines() if "→" in line]
    assert len(prompts) == 7
    assert prompts[3:6] != prompts[:3]


def test_plot_of_a_cell_without_a_language_model_says_so(tmp_path: Path, capsys: Output) -> None:
    words = shlex.split(
        "--task.pairs 4 --model.width 8 --model.layers 1 --model.mlp_width 8 --training.steps 1 "
        "--model.filter.width 4 --training.batch 2 --training.test_sequences 4 --threads 1"
    )
    assert main(["tasks", "run", "linear-functions", f"--out={tmp_path}", *words]) == 0
    assert main(["plot", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip()
    assert "step-00000001 there has no config.json: a cell of a task with real-valued" in error
    assert len(error.splitlines()) == 1


def test_run_trains_measures_and_finds_what_it_did(tmp_path: Path, capsys: Output) -> None:
    words = ["tasks", "run", "recall", "--out", str(tmp_path / "cell"), *TINY]
    assert main(words) == 0
    first = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in first[:2]] == ["step 2/4", "step 4/4"]
    assert first[2].startswith("test on 4 sequences: accuracy ")
    assert re.fullmatch(
        r"accuracy [\d.]+% \([\d.]+% to [\d.]+%\) on 4 test sequences, after 4 of 4 steps, "
        r"80 tokens and 0\.\d minutes; [\d,]+ parameters",
        first[3],
    )
    assert first[4] == str(tmp_path / "cell")
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == first[3:]
    result = json.loads((tmp_path / "cell" / "result.json").read_text())
    words = [w for w in shlex.split(result["command"])[1:] if not w.startswith("--out=")]
    words += [f"--out={tmp_path / 'again'}"]
    assert main(words) == 0
    again = json.loads((tmp_path / "again" / "result.json").read_text())
    assert again["test"] == result["test"]


def test_run_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    backward = loop.backward

    def stop(*arguments: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return backward(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "backward", stop)
    words = ["tasks", "run", "--out", str(tmp_path / "cell"), *TINY]
    assert main(words) == 130
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "interrupted; saved at step 1",
        "stopped after step 1 of 4; the same command goes on",
    ]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep's file with a folder beside it."""
    options = dict(word.split() for word in " ".join(TINY).replace(" --", "\n--").split("\n"))
    del options["--threads"]
    lines = [f"  {name[2:]}: {value}" for name, value in options.items()]
    file = tmp_path / "sweep.yaml"
    file.write_text(
        f"out: {tmp_path / 'out'}\nbase:\n"
        + "\n".join(lines)
        + "\ngrid:\n  task.vocab_size: [6, 8]\nrows:\n  - name: hyena\n"
        "  - name: mixed\n    settings:\n      model: {mixers: 'hyena,attention', layers: 2}\n"
        "    trials: [{training.optimizer.lr: 1e-3}]\n"
    )
    return file


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps' cells in this process."""
    monkeypatch.setattr(sweep_module, "_start", Here)


def test_sweep_runs_the_cells_and_writes_the_table(
    sweep: Path, tmp_path: Path, capsys: Output
) -> None:
    assert main(["tasks", "sweep", str(sweep), "--seeds", "[0, 1]", "--jobs=2"]) == 0
    out = capsys.readouterr().out
    assert out.count(" steps, 0.0 min") == 8
    assert "[8/8] " in out
    assert "| vocabulary | 6 | 8 |" in out
    assert out.endswith(f"{tmp_path}/out/table.md\n")
    cells = [
        json.loads(path.read_text()) for path in (tmp_path / "out").glob("cells/*/result.json")
    ]
    assert {cell["config"]["model"]["mixers"] for cell in cells} == {"hyena", "hyena,attention"}
    assert {cell["config"]["training"]["optimizer"]["lr"] for cell in cells} == {2e-3, 1e-3}

    assert main(["tasks", "table", f"{tmp_path}/out", "--out", f"{tmp_path}/table"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# Recall and reasoning\n")
    assert text.endswith(f"{tmp_path}/table/table.md\n")
    names = {path.name for path in (tmp_path / "table").iterdir()}
    assert names == {"table.md", "results.json", "recall.png", "recall-learning.png"}


def test_sweep_reports_failures_by_its_exit_code(
    sweep: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object) -> None:
        raise ValueError("no luck")

    monkeypatch.setattr(loop, "backward", fails)
    assert main(["tasks", "sweep", str(sweep)]) == 1
    out = capsys.readouterr().out
    assert out.count("failed: no luck") == 4
    assert "| hyena | failed | failed |" in out
