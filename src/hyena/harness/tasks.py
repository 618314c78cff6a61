"""Tasks of lm_eval by name, and what a model reaches on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.api.metrics import weighted_perplexity
from lm_eval.api.model import CacheHook
from lm_eval.api.registry import AGGREGATION_REGISTRY, METRIC_REGISTRY
from lm_eval.tasks import TaskManager

from hyena.arguments import check_whole, number, shown
from hyena.harness.answers import Answers, Remembering
from hyena.harness.model import HyenaLM

Tasks = dict[str, Any]
"""Tasks and groups as lm_eval's `TaskManager.load` gives them."""

_FILES = ("json", "csv", "text", "parquet", "arrow", "xml")  # kinds of local files, as data sets
_OF_THE_HUB = ("datasets", "huggingface_hub", "httpx", "requests")
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_OF_COLUMNS = ("doc_to_text", "doc_to_target")


def load_tasks(names: str | Sequence[str], include_path: Sequence[str | Path] = ()) -> Tasks:
    """Tasks, groups and tags by their names, with their data.

    A task is code: what its YAML file names after ``!function`` is run.

    Args:
        names: each one name or several between commas; ``*`` stands for any letters; or a YAML file
            of a task.
        include_path: folders with YAML files of tasks of one's own, which win over lm_eval's.

    Raises: ValueError, in one line, if there is no such task, it cannot be built, or it names a
        metric, an aggregation or a column that there is not; OSError if its data are not on this
        machine and cannot be fetched, or there is no such folder.
    """
    folders = [Path(folder) for folder in include_path]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"include_path: {folder} is no folder with files of tasks")
    each = [names] if isinstance(names, str) else names
    wanted = [name.strip() for several in each for name in several.split(",") if name.strip()]
    if not wanted:
        raise ValueError("tasks: expected the name of a task, got none")
    manager, found = _find(wanted, folders)
    tasks: Tasks = {"tasks": {}, "groups": {}, "group_map": {}}
    for name in found:
        for kind, of_kind in _load(manager, name).items():
            tasks[kind] |= of_kind
    for name, task in tasks["tasks"].items():
        if task.get_config("process_results") is None:  # which makes what it likes of both
            _check_metrics(name, task)
            _check_columns(name, task)
    return tasks


def evaluate_tasks(
    lm: HyenaLM,
    tasks: Tasks,
    *,
    num_fewshot: int | None = None,
    limit: float | None = None,
    seed: int = 1234,
    log_samples: bool = False,
    answers: Answers | None = None,
) -> dict[str, Any]:
    """What a model reaches on tasks, by lm_eval's `evaluate`.

    Of texts almost without blanks, such as DNA, ``word_perplexity`` is beyond the largest float; it
    is inf then, where lm_eval would end with an error when all answers are there.

    Args:
        lm: the model.
        tasks: of `load_tasks`.
        num_fewshot: solved examples before each question, of tasks that do not rule them out; None
            takes each task's own number.
        limit: documents of each task, or the share of them if below 1; None takes all.
        seed: of the choice of examples.
        log_samples: give each document, what was asked and answered, and what it counts, too.
        answers: what the model has answered so far, which is not asked again; new ones are added,
            but for texts that are drawn: they are drawn again, by the same seeds.

    Returns: the results as lm_eval has them, ``samples`` by task among them if they are asked for,
        and ``config``, the model's settings.
    Raises: ValueError if a number is out of range, or a task's metrics are none of its output_type;
        as `HyenaLM`.
    """
    if num_fewshot is not None:
        num_fewshot = check_whole("num_fewshot", num_fewshot, 0)
    if limit is not None and not 0 < number("limit", limit) < math.inf:
        raise ValueError(f"limit: expected a number of documents or a share, got {shown(limit)}")
    seed = check_whole("seed", seed, 0)
    shots = {name: task.get_config("num_fewshot") for name, task in tasks["tasks"].items()}
    asked = lm if answers is None else Remembering(lm, answers)
    try:
        for name, task in tasks["tasks"].items():
            if shots[name] is None or (num_fewshot is not None and shots[name] != 0):
                task.set_config("num_fewshot", num_fewshot or 0)
            task.set_fewshot_seed(seed)
            _bound(task.aggregation())
        results: dict[str, Any] = lm_eval.evaluate(
            asked, tasks, limit=limit, log_samples=log_samples
        )
    finally:
        lm.set_cache_hook(CacheHook(None))
        for name, task in tasks["tasks"].items():
            task.set_config("num_fewshot", shots[name])  # its own, for the next evaluation
    for name, task in tasks["tasks"].items():
        if not any("," in key for key in results["results"][name]):
            raise ValueError(
                f"task {name}: nothing was measured, since {', '.join(task.aggregation())} is no "
                f"metric of output_type {task.OUTPUT_TYPE}; name one in its metric_list"
            )
    results["config"] = {"model": "hyena", "limit": limit, "seed": seed, **lm.get_model_info()}
    return results


def _find(names: Sequence[str], folders: list[Path]) -> tuple[TaskManager, list[str]]:
    """The tasks that the names mean, and who knows them. lm_eval's own, thousands of files, are
    read only if one of them may be meant."""
    manager = TaskManager(include_path=folders, include_defaults=False)
    found = [_matches(manager, name) for name in names]
    groups = {*manager.all_tasks} - {*manager.all_subtasks}  # which may have others in them
    if not all(found) or any(groups.intersection(some) for some in found):
        manager = TaskManager(include_path=folders)
        found = [_matches(manager, name) for name in names]
    for name, some in zip(names, found, strict=True):
        if not some:
            raise ValueError(_unknown(name, manager, folders))
    return manager, list(dict.fromkeys(name for some in found for name in some))


def _matches(manager: TaskManager, name: str) -> list[str]:
    if name.endswith(".yaml"):
        return [name] if Path(name).is_file() else []
    matches: list[str] = manager.match_tasks([name])
    return matches


def _unknown(name: str, manager: TaskManager, folders: list[Path]) -> str:
    """What is said of a name that is no task's."""
    if name.endswith(".yaml"):
        return f"tasks: there is no file {name}"
    for file, why in _unreadable(folders):
        return f"there is no task {name}, but {file} cannot be read: {why}"
    close = get_close_matches(name, manager.all_tasks, n=3)
    advice = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"there is no task {name}; {advice}`lm_eval ls tasks` lists those there are, and "
        "--include_path takes a folder with tasks of one's own"
    )


def _unreadable(folders: list[Path]) -> Iterator[tuple[Path, str]]:
    """Files of tasks that lm_eval leaves out without a word, and what is wrong with each."""
    for folder in folders:
        for file in sorted(folder.glob("**/*.yaml")):
            try:
                with file.open("rb") as stream:
                    for _ in yaml.parse(stream):
                        pass
            except (OSError, yaml.YAMLError) as error:
                yield file, " ".join(str(error).split())


def _load(manager: TaskManager, name: str) -> Tasks:
    try:
        return dict(manager.load([name]))
    except Exception as error:  # a task is code, which may raise anything
        settings = _settings(manager, name)
        source = settings.get("dataset_path")
        of_hub = isinstance(error, OSError) or type(error).__module__.startswith(_OF_THE_HUB)
        if of_hub and source not in _FILES and not Path(str(source)).exists():
            which = "data" if source is None else f"the data set {source}"
            raise OSError(
                f"task {name} needs {which} of the Hugging Face Hub, which cannot be fetched: "
                f"{_line(error):.200}; connect to the internet, or take a task of local files"
            ) from error
        why = _misspelt(error, settings) or f"{type(error).__name__}: {_line(error)}"
        raise ValueError(f"task {name} cannot be built: {why}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _settings(manager: TaskManager, name: str) -> dict[str, Any]:
    """What the file of a task says; nothing if it cannot be told."""
    entry = manager.task_index.get(name)
    found: Any = None if entry is None else entry.cfg
    if entry is None and name.endswith(".yaml"):
        with suppress(OSError, ValueError, yaml.YAMLError):  # as of functions, which are code
            found = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _misspelt(error: Exception, settings: dict[str, Any]) -> str:
    """What a KeyError of lm_eval is about, of a split or a metric; empty if it is of none."""
    if not isinstance(error, KeyError):
        return ""
    key = error.args[0] if error.args else None
    for field in _SPLITS:
        if settings.get(field) == key is not None:
            return f"{field} is {key}, but its data have no such split"
    for each in settings.get("metric_list") or ():
        if isinstance(each, dict) and "aggregation" not in each and key is None:
            metric = each.get("metric")
            if metric not in METRIC_REGISTRY:
                return _none("metric", metric, METRIC_REGISTRY)
    return ""


def _check_metrics(name: str, task: Any) -> None:
    """Raises ValueError on what lm_eval builds a task without, and runs it in vain."""
    for metric, function in getattr(task, "_metric_fn_list", {}).items():
        if function is None:
            raise ValueError(f"task {name}: {_none('metric', metric, METRIC_REGISTRY)}")
    for each in task.get_config("metric_list") or ():
        if isinstance(way := each.get("aggregation"), str) and way not in AGGREGATION_REGISTRY:
            raise ValueError(f"task {name}: {_none('aggregation', way, AGGREGATION_REGISTRY)}")


def _check_columns(name: str, task: Any) -> None:
    """Raises ValueError on a word that is no column, which lm_eval takes for a text that is the
    same for all documents."""
    columns = getattr(task, "features", None)  # of what a file describes
    if columns is None or task.get_config("use_prompt") is not None:
        return
    for field in _OF_COLUMNS:
        word = task.get_config(field)
        if isinstance(word, str) and word.isidentifier() and word not in columns:
            raise ValueError(
                f"task {name}: {field} is {word}, but its data have no such column, only "
                f"{', '.join(columns)}; a text that is meant as such needs braces, "
                f"{{{{ '{word}' }}}}"
            )


def _none(what: str, name: Any, known: Iterable[str]) -> str:
    close = get_close_matches(str(name), known, n=1)
    advice = f"; did you mean {close[0]}?" if close else ""
    return f"there is no {what} {shown(name)}{advice}"


def _bound(aggregations: dict[str, Callable[..., float]]) -> None:
    """Has perplexities of texts be inf where they would be too large."""
    for name, aggregation in aggregations.items():
        if aggregation is weighted_perplexity:
            aggregations[name] = _perplexity


def _perplexity(items: list[tuple[float, float]]) -> float:
    try:
        found: float = weighted_perplexity(items)
    except OverflowError:
        return math.inf
    return found
