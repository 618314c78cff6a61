"""Cells in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cells_here import Here
from tiny_cells import cell, differing, timeless

from hyena.experiments import (
    CellConfig,
    Group,
    read_result,
    read_standings,
    run_cell,
    run_sweep,
)
from hyena.experiments import sweep as sweep_module
from hyena.experiments.cell import plain


def groups(out: Path, trials: int, seeds: int, **changes: Any) -> list[Group]:
    """One row; the trials have different learning rates, the last one a rule for nothing."""
    settings = [{"trial": trial} for trial in range(trials)]
    cells = [
        [
            cell(out / "cells" / f"{trial}-{seed}", seed=seed, threads=1, **changes)
            for seed in range(seeds)
        ]
        for trial in range(trials)
    ]
    for trial, row in enumerate(cells):
        for config in row:
            config.training.warmup_steps = trial
    return [Group("hyena", {"task.length": 8}, settings, cells)]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """No processes: they take seconds to start."""
    monkeypatch.setattr(sweep_module, "_start", Here)


@pytest.mark.usefixtures("here")
def test_trials_then_seeds_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = groups(tmp_path, 2, 2)
    lines: list[str] = []
    progress: list[tuple[int, int]] = []
    end = run_sweep(
        plan, tmp_path, jobs=2, say=lines.append, progress=lambda *done: progress.append(done)
    )
    assert (end.finished, end.failed, end.signal) == (3, 0, 0)
    assert progress[-1] == (3, 3)
    assert [line[:5] for line in lines] == ["[1/3]", "[2/3]", "[3/3]"]
    (standing,) = read_standings(tmp_path)
    assert standing.complete
    best = plan[0].cells[standing.best or 0]
    assert lines[2].startswith(f"[3/3] hyena task.length=8 trial {(standing.best or 0) + 1}/2 seed")
    assert "6 steps, 0.0 min" in lines[2]
    assert [config.seed for config in best] == [0, 1]
    assert standing.seeds == [read_result(config.out) for config in best]

    monkeypatch.setattr(sweep_module, "_start", None)
    lines.clear()
    assert run_sweep(plan, tmp_path, jobs=1, say=lines.append) == end
    assert lines == ["3 of 3 cells were there already"]


def test_the_seeds_of_a_trial_alone_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    class Slow(Here):
        """Ends once all three have begun."""

        def __init__(self, config: CellConfig, start: object) -> None:
            started.append(config.seed)
            super().__init__(config)

        def poll(self) -> int | None:
            return super().poll() if len(started) == 3 else None

    monkeypatch.setattr(sweep_module, "_start", Slow)
    end = run_sweep(groups(tmp_path, 1, 3), tmp_path, jobs=3, say=lambda line: None)
    assert (end.finished, started) == (3, [0, 1, 2])


@pytest.mark.usefixtures("here")
def test_a_cell_that_fails_stops_no_other_and_is_tried_again(tmp_path: Path) -> None:
    plan = groups(tmp_path, 2, 2)
    bad = plan[0].cells[0][0]
    bad.training.stop_at = 0.5
    bad.task.name, bad.task.length, bad.task.vocab_size = "linear-functions", 1024, 30
    lines: list[str] = []
    end = run_sweep(plan, tmp_path, jobs=2, say=lines.append)
    assert (end.finished, end.failed) == (2, 1)
    (line,) = [line for line in lines if "failed" in line]
    assert "trial 1/2 seed 0: failed: training.stop_at is an accuracy, but linear-fu" in line
    assert line.endswith(f"(see {bad.out}/log.txt)")
    (standing,) = read_standings(tmp_path)
    assert (standing.best, len(standing.seeds)) == (1, 2)
    assert standing.failures[0].startswith("training.stop_at is an accuracy")
    plan[0].cells[0][0] = cell(bad.out, threads=1)
    end = run_sweep(plan, tmp_path, jobs=2, say=lines.append)
    assert (end.finished, end.failed) == (3, 0)
    assert read_standings(tmp_path)[0].failures == []


@pytest.mark.usefixtures("here")
def test_a_record_of_another_cell_or_a_damaged_one_stops_no_other(tmp_path: Path) -> None:
    plan = groups(tmp_path, 1, 3)
    lines: list[str] = []
    run_sweep(plan, tmp_path, jobs=1, say=lines.append)
    _, other, damaged = plan[0].cells[0]
    record = other.out / "result.json"
    (other.out / "SHA256SUMS").unlink()  # the record of an older version, with another default
    record.write_text(record.read_text().replace('"steps": 6', '"steps": 5'))
    (damaged.out / "result.json").write_text("{")
    lines.clear()
    end = run_sweep(plan, tmp_path, jobs=1, say=lines.append)
    assert (end.finished, end.failed) == (1, 2)
    assert "holds another cell: training.steps was 5, is 6. Use " in lines[0]
    assert "result.json is damaged" in lines[1]
    assert len(read_standings(tmp_path)[0].failures) == 2


@pytest.mark.usefixtures("here")
def test_a_record_that_comes_out_damaged_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Damaging(Here):
        def __init__(self, config: CellConfig, start: object) -> None:
            super().__init__(config)
            (config.out / "result.json").write_text("{")

    monkeypatch.setattr(sweep_module, "_start", Damaging)
    end = run_sweep(groups(tmp_path, 1, 1), tmp_path, jobs=1, say=lambda line: None)
    assert (end.finished, end.failed) == (0, 1)


def test_a_process_that_is_killed_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(config: CellConfig, start: object) -> Here:
        config.out.mkdir(parents=True)
        return Here(config, code=-9)

    monkeypatch.setattr(sweep_module, "_start", killed)
    lines: list[str] = []
    end = run_sweep(groups(tmp_path, 1, 1), tmp_path, jobs=1, say=lines.append)
    assert (end.finished, end.failed) == (0, 1)
    assert "failed: its process was killed by signal 9, perhaps for want of memory" in lines[0]


def wait_for_text(file: Path, text: str) -> None:
    for _ in range(1200):
        if file.is_file() and text in file.read_text():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} never said {text}")


def test_ctrl_c_saves_the_running_cells_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sys.version_info >= (3, 11):  # files in the working directory are no modules
        monkeypatch.chdir(tmp_path)
        (tmp_path / "tarfile.py").write_text("1 / 0")
    training = {"steps": 300, "evaluate_every": 10}
    plan = groups(tmp_path, 1, 1, training=training)
    config = plan[0].cells[0][0]
    stopped: list[int] = []

    def progress(done: int, total: int) -> None:
        log = config.out / "log.txt"
        if not stopped and log.is_file() and "step 10/300" in log.read_text():
            stopped.append(done)
            signal.raise_signal(signal.SIGINT)

    lines: list[str] = []
    end = run_sweep(plan, tmp_path, jobs=2, say=lines.append, progress=progress)
    assert (end.finished, end.failed, end.signal) == (0, 0, signal.SIGINT)
    assert lines == ["interrupted; the same command goes on from here"]
    assert len(list((config.out / "checkpoints").iterdir())) == 1
    assert run_sweep(plan, tmp_path, jobs=2, say=lines.append).finished == 1
    assert "going on from step" in (config.out / "log.txt").read_text()
    whole = cell(tmp_path / "whole", threads=1, training={**training, "warmup_steps": 0})
    assert timeless(run_cell(whole).result) == timeless(read_result(config.out))
    assert differing(whole, config) == []


def test_a_worker_saves_and_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    config = cell(tmp_path / "cell", threads=1, training={"steps": 10**6, "evaluate_every": 5})
    log = tmp_path / "log.txt"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", "from hyena.experiments.sweep import work; work()"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(plain(config)).encode() + b"\n")
        process.stdin.flush()
        wait_for_text(log, "step 5/")
        process.stdin.close()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert len(list((config.out / "checkpoints").iterdir())) == 1


def test_a_worker_without_a_cell_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "read", lambda descriptor, size: b"")
    with pytest.raises(SystemExit) as ended:
        sweep_module.work()
    assert ended.value.code == 1
