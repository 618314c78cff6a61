"""Tasks by name: what is found, what is said of what is not, and what a model reaches on them."""

import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml
from harness_models import ACCURACY, BYTES, OF_CHOICES, OF_TEXTS, QUESTIONS, TEXTS, requests_of

import hyena
from hyena.harness import Answers, HyenaLM, evaluate_tasks, load_tasks, sample_lines
from hyena.scoring.journal import journal

Settings = Mapping[str, Any]
WriteTask = Callable[..., Path]
PER_BYTE = OF_TEXTS["metric_list"][0]
ROOT = Path(__file__).parents[2]
OF_MORE = {
    "output_type": "generate_until",
    "doc_to_text": "text",
    "doc_to_target": "next",
    "generation_kwargs": {"max_gen_toks": 3, "until": []},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture
def none_of_lm_eval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """lm_eval has no tasks of its own, thousands of files that would take long to read."""
    (tmp_path / "own").mkdir()
    monkeypatch.setattr("lm_eval.tasks.manager.__file__", str(tmp_path / "own" / "manager.py"))


def test_bits_per_byte_of_a_task_are_those_of_its_texts(
    model: hyena.LanguageModel, texts: Path
) -> None:
    lm = HyenaLM(model, BYTES, batch_size=8)
    results = evaluate_tasks(lm, load_tasks("texts", [texts]))
    total = sum(lm.loglikelihood_rolling(requests_of(*((text,) for text in TEXTS))))
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    found = results["results"]["texts"]["bits_per_byte,none"]
    assert found == pytest.approx(-total / math.log(2) / n_bytes, rel=1e-12)
    assert results["config"]["max_length"] == 48
    assert results["n-samples"]["texts"] == {"original": 3, "effective": 3}


def test_choices_are_compared_by_their_probabilities(
    model: hyena.LanguageModel, write_task: WriteTask
) -> None:
    folder = write_task("choices", QUESTIONS, OF_CHOICES)
    lm = HyenaLM(model, BYTES, batch_size=4)
    right = 0
    for row in QUESTIONS:
        pairs = [(row["question"], f" {choice}") for choice in row["choices"]]
        values = [value for value, _ in lm.loglikelihood(requests_of(*pairs))]
        right += values.index(max(values)) == row["answer"]
    results = evaluate_tasks(lm, load_tasks("choices", [folder]))
    assert results["results"]["choices"]["acc,none"] == pytest.approx(right / 3)
    one = evaluate_tasks(lm, load_tasks("choices", [folder]), limit=1)
    assert one["n-samples"]["choices"]["effective"] == 1
    share = evaluate_tasks(lm, load_tasks("choices", [folder]), limit=0.5)
    assert share["n-samples"]["choices"]["effective"] == 2


def test_solved_examples_stand_before_each_question(
    model: hyena.LanguageModel, write_task: WriteTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    answer = HyenaLM.loglikelihood

    def looking(self: HyenaLM, requests: list[Any]) -> Any:
        seen.extend(one.args[0] for one in requests)
        return answer(self, requests, disable_tqdm=True)

    monkeypatch.setattr(HyenaLM, "loglikelihood", looking)
    lm = HyenaLM(model, BYTES)
    own = {"q": OF_CHOICES, "none": {**OF_CHOICES, "num_fewshot": 0}}
    for name, settings in own.items():
        folder = write_task(name, QUESTIONS, {**settings, "fewshot_split": "test"})
        drawn = []
        for seed in (1, 1, 2, 3, 4):
            seen.clear()
            evaluate_tasks(lm, load_tasks(name, [folder]), num_fewshot=1, seed=seed)
            drawn.append([*seen])
        assert drawn[0] == drawn[1]
        solved = [text.count("\n\n") for text in drawn[0]]
        assert solved == [1 if name == "q" else 0] * len(solved)
        assert (len({str(one) for one in drawn}) > 1) == (name == "q")


def test_the_same_tasks_are_measured_as_asked_each_time(
    model: hyena.LanguageModel, write_task: WriteTask
) -> None:
    settings = {**OF_CHOICES, "fewshot_split": "test"}
    write_task("own", QUESTIONS, {**settings, "num_fewshot": 2})
    write_task("never", QUESTIONS, {**settings, "num_fewshot": 0})
    tasks = load_tasks("own,never,q", [write_task("q", QUESTIONS, settings)])
    lm = HyenaLM(model, BYTES, batch_size=8)
    for asked, expected in ((None, [2, 0, 0]), (1, [1, 0, 1]), (0, [0, 0, 0]), (None, [2, 0, 0])):
        results = evaluate_tasks(lm, tasks, num_fewshot=asked, limit=1, log_samples=True)
        assert [results["n-shot"][name] for name in ("own", "never", "q")] == expected
        asked_for = results["samples"]["own"][0]["arguments"][0][0]
        assert asked_for.count("\n\n") == expected[0]


def test_perplexity_of_a_text_without_blanks_is_inf_and_loses_nothing(
    model: hyena.LanguageModel, write_task: WriteTask
) -> None:
    metrics = [{"metric": name} for name in ("word_perplexity", "byte_perplexity")]
    both = [*OF_TEXTS["metric_list"], *metrics]
    folder = write_task("dna", [{"text": "ACGT" * 200}], {**OF_TEXTS, "metric_list": both})
    results = evaluate_tasks(HyenaLM(model, BYTES), load_tasks("dna", [folder]))["results"]["dna"]
    assert results["word_perplexity,none"] == math.inf
    bits = results["bits_per_byte,none"]
    assert results["byte_perplexity,none"] == pytest.approx(2**bits)


def test_what_was_answered_is_not_asked_again(
    model: hyena.LanguageModel,
    texts: Path,
    write_task: WriteTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_task("choices", QUESTIONS, OF_CHOICES)
    write_task("more", [{"text": "hot", "next": "x"}], OF_MORE)
    every, lm, out = "texts,choices,more", HyenaLM(model, BYTES), tmp_path / "results.json"
    asked: list[str] = []

    def counted(answer: Callable[..., Any]) -> Callable[..., Any]:
        def counting(self: HyenaLM, requests: list[Any]) -> Any:
            asked.extend(one.args[0] for one in requests)
            return answer(self, requests)

        return counting

    for attr in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
        monkeypatch.setattr(HyenaLM, attr, counted(getattr(HyenaLM, attr)))
    with contextlib.suppress(KeyboardInterrupt), journal(out, {}) as kept:
        first = evaluate_tasks(lm, load_tasks(every, [texts]), limit=1, answers=Answers(kept))
        assert len(asked) == kept.done == 4
        raise KeyboardInterrupt
    asked.clear()
    with journal(out, {}) as kept:
        again = evaluate_tasks(lm, load_tasks(every, [texts]), limit=1, answers=Answers(kept))
        assert again["results"] == first["results"]
        assert asked == []
        evaluate_tasks(lm, load_tasks("texts", [texts]), answers=Answers(kept))
        assert asked == [*TEXTS[1:]]
        lines = (kept.folder / "entries.jsonl").read_text().splitlines()
        assert [len(json.loads(line)["rows"]) for line in lines] == [1] * 6
    assert lm.cache_hook.dbdict is None


def test_after_an_interruption_drawn_texts_are_those_without_one(
    model: hyena.LanguageModel, write_task: WriteTask, tmp_path: Path
) -> None:
    rows = [{"text": text, "next": "x"} for text in ("hot", "up", "in")]
    write_task("greedy", rows, OF_MORE)
    drawn = {**OF_MORE["generation_kwargs"], "do_sample": True, "temperature": 1.0}
    folder = write_task("drawn", rows, {**OF_MORE, "generation_kwargs": drawn, "repeats": 2})
    lm, out = HyenaLM(model, BYTES), tmp_path / "results.json"

    def texts(names: str, answers: Answers | None = None) -> Any:
        tasks = load_tasks(names, [folder])
        found = evaluate_tasks(lm, tasks, log_samples=True, answers=answers)["samples"]
        return {name: [sample["resps"] for sample in found[name]] for name in found}

    expected = texts("greedy,drawn")
    with contextlib.suppress(KeyboardInterrupt), journal(out, {}) as kept:
        texts("greedy", Answers(kept))
        raise KeyboardInterrupt
    with journal(out, {}) as kept:
        assert texts("greedy,drawn", Answers(kept)) == expected
        assert texts("drawn,greedy", Answers(kept)) == expected
        assert len(Answers(kept)) == 3
    assert len({text for ((one, other),) in expected["drawn"] for text in (one, other)}) > 3


def test_what_is_no_answer_is_asked_again(tmp_path: Path) -> None:
    with journal(tmp_path / "out.json", {}) as kept:
        kept.append([{"question": 3, "answer": 1.0}, {"question": "a"}, {"answer": 1.0}])
        kept.append([{"question": "b", "answer": [-1.5, True]}, {"question": "c", "answer": "d"}])
        assert Answers(kept) == {"b": (-1.5, True), "c": "d"}


def test_several_tasks_by_names_patterns_and_files(texts: Path, write_task: WriteTask) -> None:
    for name in ("one", "two"):
        write_task(name, QUESTIONS, OF_CHOICES)
    for names in ("one,two", ["one", "two"], "t*,one", [" two , one "]):
        found = load_tasks(names, [texts])["tasks"]
        assert {"one", "two"} <= {*found} <= {"one", "two", "texts"}
    assert [*load_tasks(str(texts / "one.yaml"), [texts])["tasks"]] == ["one"]


def test_a_group_has_the_mean_of_its_tasks(
    model: hyena.LanguageModel, write_task: WriteTask, none_of_lm_eval: None
) -> None:
    for name in ("one", "two"):
        folder = write_task(name, QUESTIONS[: 2 if name == "one" else 3], OF_CHOICES)
    metrics = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    group = {"group": "both", "task": ["one", "two"], "aggregate_metric_list": metrics}
    (folder / "both.yaml").write_text(yaml.safe_dump(group))
    results = evaluate_tasks(HyenaLM(model, BYTES, batch_size=8), load_tasks("both", [folder]))
    of = results["results"]
    expected = (2 * of["one"]["acc,none"] + 3 * of["two"]["acc,none"]) / 5
    assert results["groups"]["both"]["acc,none"] == pytest.approx(expected)


def test_the_tasks_that_are_shipped_run(
    model: hyena.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    folder = Path("examples/harness")
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    lm = HyenaLM(model, BYTES, batch_size=8)
    results = evaluate_tasks(lm, load_tasks(names, [folder]))["results"]
    assert [*results] == names == ["opposites", "repeats", "texts"]
    assert 0 <= results["opposites"]["acc,none"] <= 1
    assert results["repeats"]["exact_match,none"] in (0, 1 / 3, 2 / 3, 1)
    assert results["texts"]["bits_per_byte,none"] > 0


def test_an_unknown_name_is_one_line(texts: Path, none_of_lm_eval: None) -> None:
    with pytest.raises(ValueError, match=r"there is no task tetxs; did you mean texts\? `lm_eval"):
        load_tasks("tetxs", [texts])
    with pytest.raises(ValueError, match="there is no task texts; `lm_eval ls tasks` lists those"):
        load_tasks("texts")
    with pytest.raises(ValueError, match=r"tasks: there is no file none\.yaml"):
        load_tasks("texts,none.yaml", [texts])
    with pytest.raises(ValueError, match="tasks: expected the name of a task, got none"):
        load_tasks(" ,")
    with pytest.raises(FileNotFoundError, match="include_path: nowhere is no folder with files of"):
        load_tasks("texts", ["nowhere"])


def test_a_file_that_lm_eval_cannot_read_is_named(texts: Path, none_of_lm_eval: None) -> None:
    (texts / "broken.yaml").write_text("task: broken\n  output_type: x\n")
    load_tasks("texts", [texts])
    with pytest.raises(
        ValueError, match=r"there is no task broken, but \S+/broken\.yaml cannot be"
    ):
        load_tasks("broken", [texts])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"test_split": "validation"},
            "task odd cannot be built: test_split is validation, but its data have no such split",
        ),
        ({"doc_to_target": "{{ nothing }}"}, "task odd cannot be built: UndefinedError: 'nothing'"),
        (
            {"dataset_kwargs": {"data_files": {"test": "none.jsonl"}}},
            "task odd cannot be built: Fi",
        ),
        ({"output_type": "guess"}, "task odd cannot be built: ValueError: Got invalid output_type"),
        (
            {"metric_list": ACCURACY, "fewshot_split": "x"},
            "task odd cannot be built: fewshot_split is x, but its data have no such split",
        ),
    ],
)
def test_a_task_that_cannot_be_built_is_one_line(
    settings: dict[str, Any], message: str, write_task: WriteTask
) -> None:
    folder = write_task("odd", [{"text": "a"}], {**OF_TEXTS, **settings})
    with pytest.raises(ValueError, match=message) as error:
        load_tasks("odd", [folder])
    assert "\n" not in str(error.value)


ODD: list[tuple[Settings, Settings, str]] = [
    (
        OF_TEXTS,
        {"metric_list": [{**PER_BYTE, "metric": "bits_per_bite"}]},
        "task odd: there is no metric 'bits_per_bite'; did you mean bits_per_byte?",
    ),
    (
        OF_TEXTS,
        {"metric_list": [{"metric": "bits_per_bite"}]},
        "task odd cannot be built: there is no metric 'bits_per_bite'; did you mean bits_per_byte?",
    ),
    (
        OF_TEXTS,
        {"metric_list": [{**PER_BYTE, "aggregation": "bits_per_bite"}]},
        "task odd: there is no aggregation 'bits_per_bite'; did you mean bits_per_byte?",
    ),
    (
        OF_TEXTS,
        {"doc_to_target": "txet"},
        "task odd: doc_to_target is txet, but its data have no such column, only text; a text that "
        "is meant as such needs braces, {{ 'txet' }}",
    ),
    (
        OF_CHOICES,
        {"doc_to_target": "answr"},
        "task odd: doc_to_target is answr, but its data have no such column, only question, choices"
        ", answer; a text",
    ),
    (
        OF_CHOICES,
        {"doc_to_text": "questoin"},
        "task odd: doc_to_text is questoin, but its data have no such column, only question, choic",
    ),
]


@pytest.mark.parametrize(("whole", "changes", "message"), ODD, ids=[str(one[1]) for one in ODD])
def test_what_a_task_names_that_there_is_not_is_one_line(
    whole: Settings,
    changes: Settings,
    message: str,
    write_task: WriteTask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "evaluate", None)  # where lm_eval looks for more metrics
    rows = QUESTIONS if whole is OF_CHOICES else [{"text": "a"}]
    folder = write_task("odd", rows, {**whole, **changes})
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
        load_tasks("odd", [folder])
    assert "\n" not in str(error.value)


def test_a_file_of_a_task_that_cannot_be_built_is_read_too(write_task: WriteTask) -> None:
    file = write_task("odd", [{"text": "a"}], {**OF_TEXTS, "test_split": "tset"}) / "odd.yaml"
    expected = f"task {file} cannot be built: test_split is tset, but its data have no such split"
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        load_tasks(str(file))


def test_a_constant_that_is_written_as_one_is_a_text(write_task: WriteTask) -> None:
    settings = {**OF_CHOICES, "doc_to_text": "{{ 'odd' }}", "doc_to_target": 0}
    task = load_tasks("same", [write_task("same", QUESTIONS, settings)])["tasks"]["same"]
    assert task.doc_to_text(QUESTIONS[0]) == "odd"


def test_metrics_of_another_kind_of_question_are_told(
    model: hyena.LanguageModel, write_task: WriteTask
) -> None:
    folder = write_task("odd", [{"text": "ab"}], {**OF_TEXTS, "metric_list": ACCURACY})
    tasks = load_tasks("odd", [folder])
    with pytest.raises(
        ValueError,
        match=r"^task odd: nothing was measured, since acc is no metric of output_type loglikel",
    ):
        evaluate_tasks(HyenaLM(model, BYTES), tasks)


def test_samples_say_what_was_asked_and_answered(
    model: hyena.LanguageModel, write_task: WriteTask
) -> None:
    lm = HyenaLM(model, BYTES, batch_size=4)
    folder = write_task("choices", QUESTIONS, OF_CHOICES)
    assert "samples" not in evaluate_tasks(lm, load_tasks("choices", [folder]))
    results = evaluate_tasks(lm, load_tasks("choices", [folder]), log_samples=True)
    rows = [json.loads(line) for line in sample_lines(results["samples"]["choices"])]
    assert [row["doc"] for row in rows] == QUESTIONS
    assert rows[1]["arguments"]["gen_args_2"] == {"arg_0": "up or", "arg_1": " far"}
    assert rows[1]["target"] == "1"
    assert sum(row["acc"] for row in rows) / 3 == pytest.approx(
        results["results"]["choices"]["acc,none"]
    )
    (expected,) = lm.loglikelihood(requests_of(("hot or", " cold")))
    value, greedy = rows[0]["filtered_resps"][0]
    assert (float(value), greedy) == (pytest.approx(expected[0]), str(expected[1]))


def test_a_task_that_needs_the_internet_is_one_line(
    write_task: WriteTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*words: object, **options: object) -> None:
        raise ConnectionError("Couldn't reach 'who/what'\non the Hub (LocalEntryNotFoundError)")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    far = {**OF_TEXTS, "dataset_path": "who/what", "dataset_kwargs": {}}
    folder = write_task("far", [{"text": "a"}], far)
    expected = (
        "task far needs the data set who/what of the Hugging Face Hub, which cannot be fetched: "
        "Couldn't reach 'who/what' on the Hub (LocalEntryNotFoundError); connect to the internet, "
        "or take a task of local files"
    )
    with pytest.raises(OSError, match="of the Hugging Face Hub") as error:
        load_tasks("far", [folder])
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit: expected a number of documents or a share, got 0"),
        ({"num_fewshot": -1}, "num_fewshot: expected at least 0, got -1"),
        ({"seed": 0.5}, "seed: expected a whole number, got 0.5"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(
    model: hyena.LanguageModel, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_tasks(HyenaLM(model, BYTES), {"tasks": {}, "groups": {}}, **options)
