"""What the process of a cell does: it trains a model, measures it and writes its record."""

from __future__ import annotations

from typing import Any

from hyena.data import open_tokens, read_manifest
from hyena.evaluation import evaluate
from hyena.experiments.jobs import answer
from hyena.files.records import from_plain, to_plain
from hyena.machine import of_record
from hyena.model import LanguageModel, load
from hyena.scaling.flops import training_flops
from hyena.scaling.plan import Cell, outside_embedding
from hyena.scaling.record import Bits, Result, write_result
from hyena.training import TrainConfig, TrainResult, read_metrics, train
from hyena.training.device import find_device
from hyena.training.metrics import FILE as METRICS


def work() -> None:
    """What the process of a cell does; raises as `hyena.experiments.jobs.answer`."""
    answer(run_cell)


def run_cell(request: Any) -> int:
    """Trains a cell, or goes on with it, measures it and writes its record.

    Args: the plain `Cell`.
    Returns: number of the signal that stopped it, 0 if none did.
    Raises: as `hyena.training.train`.
    """
    cell = from_plain(Cell, request)
    trained = train(cell.train)
    if not trained.signal:
        write_result(cell.folder, _measured(cell, trained))
    return trained.signal


def _measured(cell: Cell, trained: TrainResult) -> Result:
    """The record of a cell that has been trained."""
    config = cell.train
    model = load(trained.checkpoint, device=find_device(config.accelerator))
    length, batch = config.window(), config.batch // config.accumulate
    curve, seconds = _curve(config)
    validation = _bits(model, config, "validation")
    test = _bits(model, config, "test") if cell.phase == "grid" else None
    return Result(
        family=cell.family,
        width=cell.size.width,
        layers=cell.size.layers,
        seed=cell.seed,
        trial=cell.trial,
        phase=cell.phase,
        tokens_per_parameter=cell.tokens_per_parameter,
        settings=to_plain(config),
        parameters=model.parameter_count(),
        parameters_outside_embedding=outside_embedding(model),
        tokens=cell.tokens,
        steps=config.steps,
        epochs=cell.tokens / read_manifest(config.data).splits["train"].tokens,
        flops=training_flops(model, length, cell.tokens, batch),
        seconds=seconds,
        precision=config.precision,
        validation=validation,
        test=test,
        curve=curve,
        **of_record(),
    )


def _curve(config: TrainConfig) -> tuple[list[dict[str, Any]], float]:
    """The evaluations of a run, and the seconds of its steps: of each the one that counts, whatever
    was interrupted and done again."""
    curve, seconds = [], 0.0
    for record in read_metrics(config.out / METRICS):
        seconds += config.batch * config.window() / record["tokens_per_s"]
        if "validation_loss" in record:
            curve.append(
                {
                    "step": record["step"],
                    "tokens": record["tokens"],
                    "seconds": seconds,
                    "loss": record["validation_loss"],
                }
            )
    return curve, seconds


def _bits(model: LanguageModel, config: TrainConfig, split: str) -> Bits:
    """How well whole documents are predicted, in windows of the training's length that overlap by
    half."""
    length = config.window()
    found = evaluate(
        model,
        open_tokens(config.data, split).documents(),
        length=length,
        stride=max(1, length // 2),
        batch=config.batch // config.accumulate,
    )
    return Bits(
        bits_per_byte=found.bits_per_byte,
        nats_per_token=found.loss_nats_per_token,
        tokens=found.tokens,
        bytes=found.bytes,
        documents=found.documents,
    )
