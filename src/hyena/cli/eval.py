"""`hyena eval`: tasks of lm-evaluation-harness."""

import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hyena.cli.kept import kept_results, say
from hyena.cli.model_facts import Row, aligned
from hyena.cli.options import REPEATED
from hyena.cli.saved_model import ModelOptions, open_model, warnings_as_notes
from hyena.data.packages import require
from hyena.files.atomic import write_files
from hyena.scoring.journal import state_of
from hyena.scoring.outputs import check_output

POSITIONAL = "model"


@dataclass
class Config(ModelOptions):
    """What to evaluate, on which tasks, and how."""

    model: Path
    """Folder of a training run (its best checkpoint is taken), a checkpoint or a saved model."""
    tasks: list[str] | str = field(metadata=REPEATED)
    """A task, a group or a tag of lm_eval, several between commas, or the YAML file of a task. May
    be given several times."""
    include_path: list[str] | str = field(default_factory=list, metadata=REPEATED)
    """A folder with YAML files of tasks of your own. May be given several times."""
    out: Path | None = None
    """A JSON file for the results. An interrupted command goes on where it was."""
    log_samples: bool = False
    """Write what was asked and answered of each document too, beside the results: a file
    samples_TASK_OUT.jsonl a task, as lm_eval has them."""
    num_fewshot: int | None = None
    """Solved examples before each question; none takes each task's own number."""
    limit: float | None = None
    """Documents of each task, or the share of them if below 1, to try a task out; none takes
    all."""
    length: int | None = None
    """Most tokens that the model is given at once; none takes the model's max_length."""
    stride: int | None = None
    """Tokens from one window of a long text to the next; none takes windows without overlap, as
    lm_eval does."""
    begin: bool = True
    """Put the end of text before each text, as before each document of the training data; without
    it the first token of a text has no probability, and its figures are comparable with none that
    have it."""
    end: bool = False
    """Of whole texts, score the end of text after each too, as hyena evaluate does."""
    batch: int = 8
    """Texts, or windows of them, at a time."""
    seed: int = 1234
    """Seed of the choice of examples, and of what is drawn."""

    def __post_init__(self) -> None:
        if self.log_samples and self.out is None:
            raise ValueError("log_samples: the files stand beside that of --out; give it")


def run(config: Config) -> None:
    """Prints a table of results, and writes them to a file, whole or not at all."""
    if config.out is not None:
        check_output(config.out, (".json",))
    require("lm_eval", "hyena eval", "hyena[eval]")
    with _notes():
        from hyena.harness import Answers, HyenaLM, evaluate_tasks, load_tasks, sample_lines

        model, tokenizer = open_model(config.model, config)
        lm = HyenaLM(
            model,
            tokenizer,
            max_length=config.length,
            stride=config.stride,
            begin=config.begin,
            end=config.end,
            batch_size=config.batch,
            seed=config.seed,
        )
        tasks = load_tasks(_several(config.tasks), _several(config.include_path))
        options: dict[str, Any] = {
            "num_fewshot": config.num_fewshot,
            "limit": config.limit,
            "seed": config.seed,
            "log_samples": config.log_samples,
        }
        if config.out is None:
            _print(evaluate_tasks(lm, tasks, **options))
            return
        files = _files_of_samples(config.out, tasks["tasks"]) if config.log_samples else {}
        with kept_results(config.out, _work_of(config), "answer") as kept:
            results = evaluate_tasks(lm, tasks, **options, answers=Answers(kept))
            samples = results.pop("samples", None) or {}
            texts = {files[name]: "".join(sample_lines(rows)) for name, rows in samples.items()}
            texts[config.out.name] = _json(results)
            write_files(config.out.parent, {name: _writer(text) for name, text in texts.items()})
        _print(results)
        for name in texts:
            print(config.out.parent / name)


def _files_of_samples(out: Path, tasks: Iterable[str]) -> dict[str, str]:
    """By task the name of the file beside ``out``. Raises: FileExistsError if one is there."""
    plain = {name: re.sub(r"[^\w.-]", "_", name) for name in tasks}
    files = {name: f"samples_{plain[name]}_{out.stem}.jsonl" for name in tasks}
    for name in files.values():
        if (file := out.parent / name).exists():
            raise FileExistsError(f"{file} is there already; remove it, or choose another --out")
    return files


def _writer(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text, encoding="utf-8", newline="\n")


def _several(given: list[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else given


def _work_of(config: Config) -> dict[str, Any]:
    """What the answers depend on: more tasks and documents may be asked for on the way."""
    names = ("length", "stride", "begin", "end", "seed", "length_policy", "tokenizer")
    given = {name: getattr(config, name) for name in names}
    return {"command": "eval", "model": state_of(config.model), **given}


def _print(results: dict[str, Any]) -> None:
    """A row a metric, of tasks and of groups of them."""
    rows: list[Row] = [("task", "documents", "shots", "metric", "value", "standard error")]
    for name, values in results["results"].items():
        counts = str(values.get("sample_len", "")), str(results["n-shot"].get(name, ""))
        for key, value in values.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            error = values.get(f"{metric}_stderr,{kind}", "")
            shown = metric if kind == "none" else f"{metric} ({kind})"
            rows.append((name, *counts, shown, _number(value), _number(error)))
    print("\n".join(aligned(rows, "<")))


def _number(value: object) -> str:
    """Empty of what is none, such as lm_eval's "N/A"."""
    return f"{value:.4f}" if isinstance(value, int | float) else ""


def _json(results: dict[str, Any]) -> str:
    """With null for numbers that are not finite, and functions of tasks as lm_eval writes them."""
    from lm_eval.utils import handle_non_serializable

    whole = json.loads(json.dumps(results, default=handle_non_serializable))
    return json.dumps(_finite(whole), indent=2, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Notes(logging.Handler):
    """Prints what lm_eval warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


@contextmanager
def _notes() -> Iterator[None]:
    """What is warned of within is a note on standard error."""
    logger, handler = logging.getLogger("lm_eval"), _Notes(logging.WARNING)
    propagate = logger.propagate
    logger.propagate = False  # or the root would print it as well
    logger.addHandler(handler)
    try:
        with warnings_as_notes():
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
