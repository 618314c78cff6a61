"""Runs whose processes share parameters and rows: what they train is what one process trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from shared_cases import CASES, FAILING, STEPS, WAYS, config
from tiny_runs import MakeConfig, differing, tensors
from two_ranks import run_two

import hyena
from hyena.training import list_checkpoints, read_metrics, train
from hyena.training.metrics import FILE

BOUND = 1e-12


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, str]]]:
    """The folder of all runs, and what was said of them; one is begun here, goes on there, and is
    ended here."""
    folder = tmp_path_factory.mktemp("runs")
    train(config(data, folder / "moved", steps=STEPS + 1, stop_after=1))
    said = run_two("shared_cases", data, folder)
    whole = [name for name in CASES if name not in FAILING]
    assert [[rank[name] for name in whole] for rank in said] == [["None"] * len(whole)] * 2
    train(config(data, folder / "moved", steps=STEPS + 1, resume=True))
    return folder, said


@pytest.fixture
def folder(runs: tuple[Path, list[dict[str, str]]]) -> Path:
    return runs[0]


@pytest.fixture
def said(runs: tuple[Path, list[dict[str, str]]]) -> list[dict[str, str]]:
    return runs[1]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Runs of one process."""
    folder, known = tmp_path_factory.mktemp("alone"), {}

    def run(**changes: Any) -> Path:
        key = str(changes)
        if key not in known:
            known[key] = folder / str(len(known))
            train(config(data, known[key], **changes))
        return known[key]

    return run


def compare(one: Path, other: Path, bound: float = BOUND) -> None:
    """Records and weights of two runs."""
    for left, right in zip(read_metrics(one / FILE), read_metrics(other / FILE), strict=True):
        assert left.keys() == right.keys()
        assert left["tokens"] == right["tokens"]
        for name in {"loss", "validation_loss", "grad_norm"} & left.keys():
            assert left[name] == pytest.approx(right[name], rel=bound), name
    for a, b in zip(
        list_checkpoints(one / "checkpoints"), list_checkpoints(other / "checkpoints"), strict=True
    ):
        first, second = tensors(a), tensors(b)
        assert first.keys() == second.keys()
        largest = max(float(x.norm()) for x in first.values())
        for name, x in first.items():
            assert float((x - second[name]).norm()) <= bound * largest, (a.name, name)


@pytest.mark.parametrize("name", WAYS)
def test_a_shared_run_is_that_of_one_process(folder: Path, alone: Any, name: str) -> None:
    same = {n: x for n, x in WAYS[name].items() if n == "length"}
    compare(alone(**same), folder / name)


def test_a_run_in_halves_is_the_uninterrupted_one_bit_for_bit(folder: Path) -> None:
    for step in range(1, STEPS + 1):
        place = f"checkpoints/step-{step:08d}"
        assert differing(folder / "both" / place, folder / "halves" / place) == []


def test_a_run_goes_on_however_it_is_shared(folder: Path, alone: Any) -> None:
    """One process, parts, pieces, rows, one process: a step each."""
    compare(alone(steps=STEPS + 1), folder / "moved", 1e-10)


def test_the_checkpoint_of_parts_is_a_model(folder: Path) -> None:
    model = hyena.load(folder / "both")
    assert sum(p.numel() for p in model.parameters()) == model.parameter_count()


def test_a_nan_of_one_process_is_said_by_all(said: list[dict[str, str]]) -> None:
    for rank in said:
        assert rank["nan"].startswith("loss of process 1 is nan at step 3 (lr ")
        assert "last good checkpoint: " in rank["nan"]
        assert "\n" not in rank["nan"]


def test_a_signal_to_one_process_stops_all_with_a_checkpoint(
    folder: Path, said: list[dict[str, str]]
) -> None:
    assert [rank["stopped"] for rank in said] == ["signal 15 after step 3"] * 2
    names = [path.name for path in list_checkpoints(folder / "failing stopped" / "checkpoints")]
    assert names[-1] == "step-00000003"


def test_a_process_that_hangs_is_not_waited_for(said: list[dict[str, str]]) -> None:
    expected = "process 0 of 2: another process did not answer for 3 s: it hangs, or is gone; mend"
    assert said[0]["hangs"].startswith(expected)


def test_a_process_that_dies_ends_the_others(said: list[dict[str, str]]) -> None:
    expected = "process 0 of 2: another process of the run has ended, whose own message says why"
    assert said[0]["dies"].startswith(expected)
    assert "dies" not in said[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shard": 2}, "shard: expected a divisor of devices · num_nodes = 1, got 2; make the"),
        ({"devices": 4, "context": 3}, "context: expected a divisor of devices · num_nodes = 4"),
        ({"shard": 0}, "shard: expected at least 1, got 0"),
        (
            {"devices": 8, "context": 2, "batch": 6},
            "batch is 6, but has to be cut into devices · num_nodes / context · accumulate = 4 eq",
        ),
        ({"task": "classification", "devices": 2, "shard": 2}, "shard is of language models"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    make: MakeConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        train(make(**changes))
