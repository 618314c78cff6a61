"""A cell that was interrupted is the uninterrupted one, bit by bit."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_cells import cell, differing, timeless
from two_at_once import resume_twice

from hyena.experiments import read_result, run, run_cell
from hyena.training import loop

TOKENS: dict[str, Any] = {"model": {"dropout": 0.2}}
CASES: dict[str, dict[str, Any]] = {
    "tokens": TOKENS,
    "stages": {"training": {"stages": [(4, 2)], "steps": 4}},
    "samples": {"training": {"samples": 10, "epochs": 2, "steps": None}},
    "numbers": {
        "task": {"name": "linear-functions", "dimension": 2, "length": 1024, "vocab_size": 30}
    },
}


def at_call(
    monkeypatch: pytest.MonkeyPatch, name: str, number: int, action: Callable[[], None]
) -> None:
    """Does something before the given call of a function of the loop or of a cell."""
    module = loop if name == "backward" else run
    original = getattr(module, name)

    def called(*arguments: Any, **options: Any) -> Any:
        called.calls += 1
        if called.calls == number:
            action()
        return original(*arguments, **options)

    called.calls = 0
    monkeypatch.setattr(module, name, called)


def stop() -> None:
    signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("step", [1, 2, 5])
def test_after_a_signal_in_a_step(
    case: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (cell(tmp_path / name, **CASES[case]) for name in ("whole", "parts"))
    expected = run_cell(whole).result
    with monkeypatch.context() as patch:
        at_call(patch, "backward", step, stop)
        end = run_cell(parts)
    assert (end.result, end.step, end.signal) == (None, step, signal.SIGTERM)
    assert read_result(parts.out) is None
    result = run_cell(parts).result
    assert timeless(result) == timeless(expected)
    assert differing(whole, parts) == []


@pytest.mark.parametrize("call", [1, 2, 4])  # the last one is the test
def test_after_a_signal_while_it_is_measured(
    call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = (cell(tmp_path / name, **TOKENS) for name in ("whole", "parts"))
    expected = run_cell(whole).result
    with monkeypatch.context() as patch:
        at_call(patch, "measure", call, stop)
        end = run_cell(parts)
    assert (end.result, end.step) == (None, min(2 * call, 6))
    result = run_cell(parts).result
    assert timeless(result) == timeless(expected)
    assert differing(whole, parts) == []


def test_after_a_kill_from_the_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise KeyboardInterrupt

    often = {**TOKENS, "training": {"checkpoint_minutes": 0.0}}
    whole, parts = cell(tmp_path / "whole", **TOKENS), cell(tmp_path / "parts", **often)
    expected = run_cell(whole).result
    with monkeypatch.context() as patch:
        at_call(patch, "backward", 5, die)
        with pytest.raises(KeyboardInterrupt):
            run_cell(parts)
    left = [path.name for path in (parts.out / "checkpoints").iterdir()]
    assert left == ["step-00000004"]
    for file in (parts.out / "checkpoints").glob("*/*.safetensors"):
        with safe_open(file, framework="pt") as weights:
            assert weights.metadata()["format"] == "pt"  # without which accelerate refuses them
    lines: list[str] = []
    result = run_cell(cell(tmp_path / "parts", **TOKENS), say=lines.append).result
    assert lines[0] == "going on from step 4 of 6"
    assert timeless(result).curve == timeless(expected).curve
    assert differing(whole, parts) == []


RESUME = """
import sys
from pathlib import Path
from tiny_cells import cell
from hyena.experiments import run_cell


def resume():
    run_cell(cell(Path(sys.argv[1])), say=lambda line: None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_of_two_processes_that_resume_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = cell(tmp_path / "whole"), cell(tmp_path / "parts")
    expected = run_cell(whole).result
    interrupted(parts.out, monkeypatch)
    said = resume_twice(RESUME, parts.out)
    assert said == f"another run is using {parts.out}; wait for it or stop it first"
    assert timeless(read_result(parts.out)).curve == timeless(expected).curve
    assert differing(whole, parts) == []


def test_a_signal_before_the_first_step_leaves_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    with monkeypatch.context() as patch:
        at_call(patch, "build_model", 1, stop)
        end = run_cell(cell(tmp_path / "cell"), say=lines.append)
    assert (end.step, end.signal) == (0, signal.SIGTERM)
    assert lines == ["interrupted; nothing to save yet"]
    assert [path.name for path in (tmp_path / "cell").iterdir()] == [".lock"]


def test_handlers_threads_and_random_state_are_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    run_cell(cell(tmp_path / "cell", threads=3, model={"dropout": 0.1}))
    assert asked == [3, threads]
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert torch.equal(state, torch.get_rng_state())


def interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cell that was stopped after its third step; returns its checkpoint."""
    with monkeypatch.context() as patch:
        at_call(patch, "backward", 3, stop)
        run_cell(cell(folder))
    (checkpoint,) = (folder / "checkpoints").iterdir()
    return checkpoint


def test_another_cell_s_checkpoint_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(tmp_path / "cell", monkeypatch)
    with pytest.raises(ValueError, match=r"holds another cell: training.steps was 6, is 7\. Use"):
        run_cell(cell(tmp_path / "cell", training={"steps": 7}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "", r"state.json is damaged: .*; there is none before it: restore it"),
        (lambda text: "{}", r"state.json is damaged: it has no format_version; there"),
        (lambda text: text.replace('n": 1', 'n": 2', 1), "state.json has format version 2, but"),
        (lambda text: text.replace('"step": 3', '"step": "3"', 1), "step: expected int, got '3'"),
        (lambda text: text.replace('"step": 3', '"step": 2', 1), "damaged: its step is 2"),
        (lambda text: text.replace('"tokens": ', '"tokens": 1'), "damaged: its SHA-256 is not"),
        (None, "step-00000003 is no checkpoint of a cell: it has no state.json; use another"),
    ],
)
def test_a_damaged_checkpoint_is_named(
    damage: Callable[[str], str] | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = interrupted(tmp_path / "cell", monkeypatch) / "state.json"
    if damage is None:
        state.unlink()
    else:
        state.write_text(damage(state.read_text()))
    with pytest.raises(ValueError, match=message) as caught:
        run_cell(cell(tmp_path / "cell"))
    assert "\n" not in str(caught.value)


def test_there_is_never_half_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def fails(descriptor: int) -> None:
        sync(descriptor)
        if list((tmp_path / "cell" / "checkpoints").glob("step-00000003.tmp")):
            raise OSError(28, "No space left on device")

    often = cell(tmp_path / "cell", training={"checkpoint_minutes": 0.0})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="No space left on device"):
            run_cell(often)
    (checkpoint,) = (tmp_path / "cell" / "checkpoints").iterdir()
    assert checkpoint.name == "step-00000002"
    assert json.loads((checkpoint / "state.json").read_text())["step"] == 2
    assert run_cell(often).result is not None
