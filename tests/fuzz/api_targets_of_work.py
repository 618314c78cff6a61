"""What is called with hostile arguments: training, data, tasks, distillation, drawings."""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy
import torch

import hyena
from hyena import (
    data,
    distillation,
    evaluation,
    experiments,
    generation,
    genomes,
    plots,
    tasks,
    training,
)

Make = Callable[[], tuple[Callable[..., Any], dict[str, Any]]]
LOGITS = functools.partial(torch.randn, 2, 11)
TASK = {"name": "recall", "length": 8, "vocab_size": 6, "most_keys": 2, "alphabet": None,
        "pairs": None, "copy_length": 1, "triggers": 1, "dimension": 5, "digits": 4}  # fmt: skip


@functools.cache
def _model(length: int = 12, vocabulary: int = 11) -> hyena.LanguageModel:
    config = hyena.ModelConfig(
        vocab_size=vocabulary, width=4, layers=1, mlp_width=4, max_length=length
    )
    return hyena.LanguageModel(config).eval()


def _sampled(task: Any, count: Any = 2, split: Any = "train") -> Any:
    return task.sample(count, torch.Generator(), split)


def _of_training() -> dict[str, Make]:
    return {
        "TrainConfig": lambda: (
            training.TrainConfig,
            {
                "data": Path("d"),
                "out": Path("o"),
                "steps": 2,
                "batch": 2,
                "length": 8,
                "accumulate": 1,
                "clip": 1.0,
                "seed": 0,
                "devices": 1,
                "num_nodes": 1,
            },
        ),
        "ScheduleConfig": lambda: (
            training.ScheduleConfig,
            {"warmup_steps": 2, "start_lr": 1e-6, "min_lr": 1e-5},
        ),
        "OptimizerConfig": lambda: (
            training.OptimizerConfig,
            {"lr": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.1},
        ),
        "adamw": lambda: (
            lambda **words: training.adamw(_model(), training.OptimizerConfig(**words)),
            {"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1, "filter_lr": 1e-3},
        ),
        "ParameterRule": lambda: (
            lambda **words: training.parameter_groups(
                _model(), training.OptimizerConfig(rules=[training.ParameterRule(**words)])
            ),
            {"pattern": "norm", "lr": 1e-3, "lr_scale": None, "weight_decay": 0.1},
        ),
        "learning_rate": lambda: (
            training.learning_rate,
            {"step": 3, "peak": 1e-3, "start": 1e-6, "floor": 1e-5, "warmup": 2, "steps": 9},
        ),
        "read_metrics": lambda: (training.read_metrics, {"path": Path("absent")}),
        "read_training_state": lambda: (
            training.read_training_state,
            {"checkpoint": Path("absent")},
        ),
        "TaskTraining": lambda: (
            lambda **words: experiments.CellConfig(
                Path("o"), training=experiments.TaskTraining(**words)
            ),
            {
                "steps": 4,
                "batch": 2,
                "length": 8,
                "tokens_per_step": 16,
                "samples": None,
                "epochs": None,
            },
        ),
    }


def _of_data() -> dict[str, Make]:
    stream = SimpleNamespace(tokens=numpy.arange(64) % 9, document_starts=numpy.array([0, 20]))
    return {
        "PrepareConfig": lambda: (
            lambda **words: data.PrepareConfig(**words).check(),
            {
                "source": "x",
                "out": Path("o"),
                "validation": 0.1,
                "test": 0.1,
                "seed": 0,
                "split_by": "documents",
                "soft_masked": None,
                "n_runs": "keep",
            },
        ),
        "TextFields": lambda: (
            lambda **words: data.find_source("absent", data.TextFields(**words)),
            {"field": "text", "separator": None, "document_start": None},
        ),
        "find_source": lambda: (data.find_source, {"spec": "absent"}),
        "open_tokens": lambda: (data.open_tokens, {"directory": "absent", "split": "train"}),
        "read_manifest": lambda: (data.read_manifest, {"directory": "absent"}),
        "WindowSampler": lambda: (
            lambda step, rank, world, **words: data.WindowSampler(stream, **words).batch(
                step, rank, world
            ),
            {"length": 8, "batch": 2, "seed": 0, "step": 1, "rank": 0, "world": 1},
        ),
        "load_tokenizer": lambda: (data.load_tokenizer, {"spec": "bytes", "end_of_text": None}),
        "BytesTokenizer.encode": lambda: (data.BytesTokenizer().encode, {"text": "a"}),
        "BytesTokenizer.decode": lambda: (data.BytesTokenizer().decode, {"ids": [1, 2, 3]}),
        "sliding_windows": lambda: (
            lambda **words: list(itertools.islice(evaluation.sliding_windows(**words), 100)),
            {"targets": 20, "length": 8, "stride": 4},
        ),
        "evaluate": lambda: (
            evaluation.evaluate,
            {
                "model": _model(),
                "documents": [(numpy.array([1, 2, 3, 4]), 9)],
                "length": 8,
                "stride": 4,
                "batch": 2,
                "device": "cpu",
            },
        ),
        "evaluate_by_position": lambda: (
            evaluation.evaluate_by_position,
            {
                "model": _model(),
                "documents": [(numpy.array([1, 2, 3, 4, 1, 2, 3, 4, 1]), 9)],
                "length": 8,
                "edges": [0, 4, 8],
                "batch": 2,
                "device": "cpu",
            },
        ),
        "position_bins": lambda: (evaluation.position_bins, {"length": 100, "first": 8}),
    }


def _of_tasks() -> dict[str, Make]:
    kinds: dict[str, dict[str, Any]] = {
        "Addition": {"digits": 2},
        "AssociativeRecall": {"length": 8, "vocab_size": 6, "most_keys": 2, "alphabet": None},
        "Counting": {"length": 8, "vocab_size": 6},
        "InductionHead": {"length": 9, "vocab_size": 6, "copy_length": 1, "triggers": 1},
        "LinearFunctions": {"dimension": 2, "pairs": 3},
        "Majority": {"length": 9, "vocab_size": 6},
        "MultiQueryRecall": {"length": 16, "vocab_size": 12, "pairs": 2},
        "PlainRecall": {"length": 8, "vocab_size": 6, "most_keys": 2, "alphabet": None},
    }
    found: dict[str, Make] = {
        f"tasks.{name}": lambda name=name, words=words: (
            lambda **words: _sampled(getattr(tasks, name)(**words)),
            dict(words),
        )
        for name, words in kinds.items()
    }
    found["TaskConfig"] = lambda: (
        lambda **words: _sampled(tasks.build_task(tasks.TaskConfig(**words))),
        dict(TASK),
    )
    found["Task.sample"] = lambda: (
        functools.partial(_sampled, tasks.AssociativeRecall(length=8, vocab_size=6)),
        {"count": 2, "split": "train"},
    )
    found["exact_match"] = lambda: (
        lambda predicted: tasks.exact_match(
            predicted, _sampled(tasks.AssociativeRecall(length=8, vocab_size=6))
        ),
        {"predicted": torch.zeros(2, 10, dtype=torch.int64)},
    )
    return found


def _of_models() -> dict[str, Make]:
    return {
        "distribution": lambda: (
            lambda logits, seen, **words: generation.distribution(
                logits, generation.Sampling(**words), seen
            ),
            {
                "logits": LOGITS(),
                "seen": None,
                "temperature": 1.0,
                "top_k": 3,
                "top_p": 0.9,
                "min_p": 0.1,
                "repetition_penalty": 1.0,
            },
        ),
        "sample": lambda: (
            lambda logits, generators: generation.sample(logits, generation.Sampling(), generators),
            {"logits": LOGITS(), "generators": [torch.Generator(), torch.Generator()]},
        ),
        "stream": lambda: (
            lambda **words: list(generation.stream(_model(), **words)),
            {"prompts": [[1, 2], [3]], "max_new_tokens": 2, "seed": 0, "stop_tokens": [3]},
        ),
        "load_state": lambda: (generation.load_state, {"path": "absent", "device": "cpu"}),
        "hyena.load": lambda: (
            hyena.load,
            {"path": "absent", "device": "cpu", "length_policy": None, "dtype": None},
        ),
        "hyena.preset": lambda: (hyena.preset, {"name": "125M"}),
        "hyena.preset changed": lambda: (
            lambda **words: hyena.preset("125M", **words).mixers,
            {"width": 8, "layers": 1, "max_length": 9, "dropout": 0.0, "mixers": "hyena"},
        ),
        "distill": lambda: (
            functools.partial(distillation.distill, _model()),
            {"tolerance": 0.1, "state": None, "largest": 4, "length": 12, "form": "modal"},
        ),
        "distillation.fit": lambda: (
            distillation.fit,
            {"taps": torch.randn(2, 12, dtype=torch.float64), "tolerance": 0.1, "order": None},
        ),
        "distillation.hankel": lambda: (
            distillation.hankel,
            {"taps": torch.randn(2, 12, dtype=torch.float64), "order": 3, "most": 8},
        ),
        "logit_error": lambda: (
            functools.partial(distillation.logit_error, _model(), _model()),
            {"inputs": [torch.tensor([1, 2, 3])]},
        ),
        "draw_filters": lambda: (
            functools.partial(plots.draw_filters, _model()),
            {"path": Path("filters.svg"), "length": 8},
        ),
        "draw_loss": lambda: (
            plots.draw_loss,
            {
                "records": [{"step": step, "tokens": 9, "loss": 2.0, "lr": 0.1} for step in (1, 2)],
                "path": Path("loss.svg"),
            },
        ),
    }


def _of_sequences() -> dict[str, Make]:
    read = {"sequences": ["ACGT", "CA"], "both_strands": False, "begin": True, "batch": 2}
    model, tokenizer = functools.partial(_model, vocabulary=257), data.BytesTokenizer()
    return {
        "score": lambda: (
            lambda **words: list(hyena.score(model(), tokenizer, **words)),
            {**read, "on_error": "stop", "reduce": "sum", "positions": True, "window": None,
             "stride": None},
        ),
        "embed": lambda: (
            lambda **words: list(hyena.embed(model(), tokenizer, **words)),
            {**read, "on_error": "stop", "layer": "norm", "pool": "mean"},
        ),
        "reverse_complement": lambda: (genomes.reverse_complement, {"sequence": b"ACGT"}),
    }  # fmt: skip


TARGETS = {**_of_training(), **_of_data(), **_of_tasks(), **_of_models(), **_of_sequences()}
