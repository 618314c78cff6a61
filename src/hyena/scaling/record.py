"""What is known of a training of a scaling sweep when it is finished."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hyena.experiments.finished import read_finished, write_finished
from hyena.experiments.jobs import FAILED
from hyena.files.records import differences, to_plain
from hyena.scaling.plan import CELLS, Cell, Phase, Speed, read_plan
from hyena.training import TrainConfig
from hyena.training.resume import FREE_ON_RESUME

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Flops:
    """Floating point operations of a whole training: forward and backward of all its tokens, three
    times the forward pass.

    Attributes:
        paper: by the formula of Poli et al. 2023, see `hyena.model.flops`; attention's pairs
            without those in the future.
        executed: as executed by this package, with the same pairs.
        counted: what PyTorch's counter sees: matrix products, with all pairs of attention; None
            where it sees nothing of how a layer mixes the tokens, as of FFTs.
    """

    paper: float
    executed: float
    counted: float | None


@dataclass(frozen=True)
class Bits:
    """How well the documents of a split are predicted, see `hyena.evaluation.Evaluation`."""

    bits_per_byte: float
    nats_per_token: float
    tokens: int
    bytes: int
    documents: int


@dataclass(frozen=True)
class Result:
    """A finished training.

    Attributes:
        family: its name.
        width: of the model.
        layers: of the model.
        seed: of weights and data.
        trial: its place among the family's trials, from 0.
        phase: "tune" for a trial, "grid" for a training that the figures are of.
        tokens_per_parameter: the budget, see `hyena.scaling.ScalingConfig`.
        settings: the plain `hyena.training.TrainConfig`.
        parameters: of the model.
        parameters_outside_embedding: of them, without the embedding, which is the head too.
        tokens: that were trained on.
        steps: in which.
        epochs: how often that is the training text.
        flops: that it took.
        seconds: that its training steps took, whatever ran beside them.
        precision: that was computed in, see `hyena.training.TrainConfig`.
        validation: of the last weights, on the validation documents.
        test: on the test documents, which are read once, at the end; None for a trial.
        curve: a table an evaluation: step, tokens, seconds, and loss in nats a token on the
            validation windows, the same ones every time.
        versions: of hyena, torch and Python, and which convolution ran.
        machine: processor and number of cores.
        threads: that were computed with.
    """

    family: str
    width: int
    layers: int
    seed: int
    trial: int
    phase: Phase
    tokens_per_parameter: float
    settings: dict[str, Any]
    parameters: int
    parameters_outside_embedding: int
    tokens: int
    steps: int
    epochs: float
    flops: Flops
    seconds: float
    precision: str
    validation: Bits
    test: Bits | None
    curve: list[dict[str, Any]]
    versions: dict[str, str]
    machine: dict[str, Any]
    threads: int


def write_result(folder: Path, result: Result) -> None:
    """Writes the record into the cell's folder, with its digest, atomically."""
    write_finished(folder, result, FORMAT_VERSION)


def read_result(folder: Path) -> Result | None:
    """The record in a cell's folder; None if the cell is not finished.

    Raises: ValueError if it is damaged or of another format version.
    """
    return read_finished(folder, Result, FORMAT_VERSION)


def find_finished(cell: Cell) -> Result | None:
    """The record of a cell; then no note in its folder says that it failed.

    Raises: ValueError if it is damaged, or of another training.
    """
    result = read_result(cell.folder)
    if result is not None:
        default = TrainConfig(data=cell.train.data, out=cell.train.out)
        now = to_plain(cell.train)
        changed = differences(result.settings, now, default, FREE_ON_RESUME)
        if changed:
            raise ValueError(
                f"{cell.folder} holds another training: {'; '.join(changed)}. Use the old values, "
                "or another folder"
            )
        (cell.folder / FAILED).unlink(missing_ok=True)
    return result


def read_results(out: Path) -> list[Result]:
    """The records of a scaling sweep's folder, of both phases and as many as are finished: those of
    the cells of its latest call, in order.

    Raises: FileNotFoundError if there is no scaling sweep in it; ValueError if one is damaged.
    """
    found = [read_result(out / CELLS / name) for name in read_plan(out).folders]
    return [result for result in found if result is not None]


def at_speeds(results: Iterable[Result], speeds: Iterable[Speed]) -> list[Result]:
    """The same with the seconds that they take with nothing beside them, at the measured speeds;
    those without such a speed as they are."""
    known = {(x.family, x.width, x.layers): x.tokens_per_second for x in speeds}

    def at_speed(result: Result) -> Result:
        speed = known.get((result.family, result.width, result.layers))
        return result if speed is None else replace(result, seconds=result.tokens / speed)

    return [at_speed(result) for result in results]


def choose(results: dict[int, Result]) -> int | None:
    """The trial that predicts the validation documents best, of equal ones the first; None if
    there is no result.

    Args: the finished trials of a family by their places.
    """
    bits = {trial: result.validation.bits_per_byte for trial, result in sorted(results.items())}
    return min(bits, key=lambda trial: bits[trial], default=None)
