"""How a run ends early: signals, a loss that is not finite, a disk that is full."""

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tiny_runs import MakeConfig, differing, tiny_config

from hyena.files import atomic
from hyena.training import checkpoint, list_checkpoints, loop, read_metrics, run, train
from hyena.training.metrics import Metrics
from hyena.training.processes import stop_on_signal


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Any) -> None:
    """Do something while the given step is under way."""
    original = loop.backward

    def backward(*arguments: Any) -> torch.Tensor:
        backward.calls += 1
        if backward.calls == step:
            action()
        return original(*arguments)

    backward.calls = 0
    monkeypatch.setattr(loop, "backward", backward)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    whole = train(make("whole"))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: signal.raise_signal(number))
        result = train(make("stopped"))
    assert (result.step, result.signal) == (3, number)
    assert result.checkpoint.name == "step-00000003"
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    resumed = train(make("stopped", resume=True))
    assert differing(whole.checkpoint, resumed.checkpoint) == []


def test_the_second_signal_ends_it_at_once(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    at_step(monkeypatch, 3, twice)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(make())
    assert signal.getsignal(signal.SIGINT) is handler
    folder = make().out / "checkpoints"
    assert [path.name for path in list_checkpoints(folder)] == ["step-00000002"]


def test_a_second_signal_during_a_checkpoint_leaves_no_half_of_it(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def interrupted(descriptor: int) -> None:
        sync(descriptor)
        if list((make().out / "checkpoints").glob("step-00000004.tmp")):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(make())
    left = {path.name for path in (make().out / "checkpoints").iterdir()}
    assert left == {"step-00000002", "step-00000003", "best.json"}


def test_a_thread_trains_without_handlers(make: MakeConfig) -> None:
    results = []
    thread = threading.Thread(target=lambda: results.append(train(make())))
    thread.start()
    thread.join()
    assert results[0].step == 6


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="inside"), stop_on_signal():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_before_the_update(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    good = train(make("good", stop_after=4))
    at_step(monkeypatch, 5, lambda: monkeypatch.setattr(run, "window_loss", lambda *_: broken))
    broken = torch.tensor(value, requires_grad=True)
    message = rf"loss is {value} at step 5 \(lr .*last good checkpoint: .*step-00000004. Try a low"
    with pytest.raises(RuntimeError, match=message):
        train(make("bad"))
    saved = list_checkpoints(make("bad").out / "checkpoints")
    assert saved[-1].name == "step-00000004"
    assert differing(good.checkpoint, saved[-1]) == []
    assert [r["step"] for r in read_metrics(make("bad").out / "metrics.jsonl")] == [1, 2, 3, 4]


def test_a_gradient_that_is_not_finite_stops_too(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Explode(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, loss: torch.Tensor) -> torch.Tensor:
            return loss.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * float("inf")

    original = run.window_loss
    monkeypatch.setattr(run, "window_loss", lambda *a: Explode.apply(original(*a)))
    message = r"gradient norm is (nan|inf) at step 1 .*there is no checkpoint yet"
    with pytest.raises(RuntimeError, match=message):
        train(make())


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("owner", "name", "refusal"),
    [
        (checkpoint, "save_file", full),
        (os, "rename", full),
        (safetensors.torch, "serialize_file", full),
    ],
    ids=["optimizer", "rename", "model"],
)
def test_a_full_disk_is_one_line_and_loses_nothing(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, refusal: Any
) -> None:
    whole = train(make("whole"))
    with monkeypatch.context() as patch:
        at_step(patch, 4, lambda: patch.setattr(owner, name, refusal))
        message = (
            r"checkpoint .*step-00000004 could not be written: No space left on device; "
            r"the checkpoints up to .*step-00000003 are intact. Free space"
        )
        with pytest.raises(OSError, match=message) as caught:
            train(make())
    assert "\n" not in str(caught.value)
    folder = make().out / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {
        "step-00000002",
        "step-00000003",
        "best.json",
    }
    assert differing(whole.checkpoint, train(make(resume=True)).checkpoint) == []


def test_a_disk_full_of_metrics_is_one_line_too(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, 3, lambda: monkeypatch.setattr(Metrics, "write", full))
    message = r"metrics.jsonl could not be written: No space left on device; .*step-00000002 are in"
    with pytest.raises(OSError, match=message):
        train(make())


def test_a_disk_that_is_full_at_the_start_is_one_line(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make(stop_after=2))
    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_text", full)
        with pytest.raises(OSError, match=r"run folder .* cannot be written: No space left on dev"):
            train(make(resume=True))
    with monkeypatch.context() as patch:
        patch.setattr("hyena.training.metrics._drop_after", full)
        message = r"metrics.jsonl could not be written: No space .*step-00000002 are intact"
        with pytest.raises(OSError, match=message):
            train(make(resume=True))
    assert train(make(resume=True)).step == 6


def test_a_folder_that_cannot_be_written_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=r"/file is a file; give a folder to --out \(out=\)"):
        train(tiny_config(data, tmp_path / "file" / "run"))


def test_a_read_only_folder_is_refused(
    make: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OSError, match=r"run folder .*run cannot be written: Permission denied"):
        train(make())
