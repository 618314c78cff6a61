"""Training on sequences with labels: what it makes less, and that it goes on bit for bit."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled_rows import BYTES, TASKS, base_model, rows, write_lines, write_table
from safetensors.torch import load_file
from tiny_runs import differing, run_script, tensors
from torch.nn import functional as F

import hyena
from hyena.arguments import IGNORE
from hyena.data import load_tokenizer
from hyena.files.records import from_plain
from hyena.finetuning.data import LabelledData, LabelledRows
from hyena.finetuning.metrics import ClassTally, NumberTally
from hyena.finetuning.objective import LabelObjective
from hyena.model import LanguageModel, ModelConfig
from hyena.model.label_head import Labels
from hyena.model.label_outputs import label_outputs
from hyena.training import (
    CheckpointConfig,
    EvaluationConfig,
    LabelsConfig,
    OptimizerConfig,
    TrainConfig,
    read_metrics,
    read_training_state,
    train,
)
from hyena.training.checkpoint import find_start
from hyena.training.initial import build, resolved
from hyena.training.metrics import FILE
from hyena.training.plan import plan_run
from hyena.training.run import open_objective

ALL = pytest.mark.parametrize("task", TASKS)
CPU = torch.device("cpu")


def configured(folder: Path, task: Any, out: str = "run", **changes: Any) -> TrainConfig:
    """A run of six steps on 24 rows, that begins with a saved model."""
    data = folder / f"{task}.tsv"
    if not data.is_file():
        write_table(data, rows(task, 24))
    if not (folder / "base").is_dir():
        base_model(folder / "base")
    config = TrainConfig(
        data=data,
        out=folder / out,
        task=task,
        init=folder / "base",
        model=ModelConfig(**changes.pop("model", {})),
        labels=LabelsConfig(**{"fraction": 0.25, **changes.pop("labels", {})}),
        optimizer=OptimizerConfig(lr=changes.pop("lr", 1e-2)),
        steps=6,
        batch=4,
        accelerator="cpu",
        evaluation=EvaluationConfig(every=3),
        checkpoint=CheckpointConfig(every=2),
    )
    return replace(config, **changes)


def loss_of(model: LanguageModel, objective: Any, step: int) -> torch.Tensor:
    """The loss of a step by its definition: row by row, without padding."""
    data, losses = objective._data, []
    for row in objective._order.rows(step).tolist():
        ids = [*objective._first, *data.training.tokens[row].tolist()]
        found = label_outputs(model, torch.tensor([ids]), torch.tensor([len(ids)]))[0]
        target = torch.from_numpy(data.training.targets[row].copy())
        if objective.labels.task == "regression":
            losses.append((found - target).square().mean())
        elif objective.labels.task == "classification":
            losses.append(-found.log_softmax(-1)[target])
        else:
            each = found[len(objective._first) :].log_softmax(-1)
            losses += [-x[i] for x, i in zip(each, target.tolist(), strict=True) if i != IGNORE]
    return torch.stack(losses).mean()


@ALL
@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_and_gradient_of_a_step_are_those_of_its_rows_one_by_one(
    task: str, accumulate: int, tmp_path: Path
) -> None:
    config = resolved(configured(tmp_path, task, precision="64", accumulate=accumulate))
    objective = open_objective(config)
    model = build(config, find_start(config, {}), objective.labels)
    slow = loss_of(model, objective, 1)
    expected = torch.autograd.grad(slow, list(model.parameters()))
    module = objective.module(model)
    # Of two processes, whose gradients are averaged.
    parts = [part for rank in range(2) for part in objective.parts(1, rank, 2)]
    assert len(parts) == 2 * accumulate
    loss = sum(objective.loss(module, part, CPU) for part in parts) / 2
    assert float(loss.detach()) == pytest.approx(float(slow.detach()), rel=1e-12)
    found = torch.autograd.grad(loss, list(model.parameters()))
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-12)
    longest, tokens = objective.size(1)
    lengths = [len(objective._first) + len(x) for x in objective._data.training.tokens]
    read = [lengths[row] for row in objective._order.rows(1)]
    assert (longest, tokens) == (max(read), sum(read))


@ALL
def test_an_evaluation_is_that_of_all_rows_held_out(task: str, tmp_path: Path) -> None:
    result = train(configured(tmp_path, task, precision="64"))
    record = read_metrics(tmp_path / "run" / FILE)[-1]
    config = resolved(configured(tmp_path, task, precision="64"))
    data, model = open_objective(config)._data, hyena.load(result.checkpoint)
    first = [BYTES.end_of_text]
    outputs = []
    with torch.no_grad():
        for tokens in data.validation.tokens:
            ids = [*first, *tokens.tolist()]
            outputs.append(label_outputs(model, torch.tensor([ids]), torch.tensor([len(ids)]))[0])
    targets = [torch.from_numpy(target.copy()) for target in data.validation.targets]
    if task == "regression":
        tally: Any = NumberTally(data.labels, torch.stack(targets))
        tally.add(list(range(len(targets))), torch.stack(outputs))
    else:
        tally = ClassTally(data.labels)
        for output, target in zip(outputs, targets, strict=True):
            of_letters = task == "token-classification"
            tally.add(output[1:] if of_letters else output[None], target.view(-1))
    for name, value in tally.metrics().items():
        assert record[f"validation_{name}"] == pytest.approx(value, rel=1e-9), name


@ALL
def test_it_learns(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path / f"{task}.tsv", rows(task, 80))
    train(configured(tmp_path, task, steps=80, batch=16, evaluation=EvaluationConfig(every=40)))
    record = read_metrics(tmp_path / "run" / FILE)[-1]
    name = "pearson" if task == "regression" else "accuracy"
    assert record[f"validation_{name}"] > 0.8
    assert f"  {name} {record[f'validation_{name}']:.4f}  " in capsys.readouterr().err
    model = hyena.load(tmp_path / "run")
    text = "GCGCGGCGC"
    (found,) = hyena.predict(model, BYTES, text)
    if task == "regression":
        assert found.values is not None
        assert abs(float(found.values[0]) - 14) < 2  # ten, and four where all is G or C
    else:
        assert found.label == "rich" or found.labels == ("S",) * len(text)


@ALL
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": {"dropout": 0.3}, "accumulate": 2, "activation_checkpointing": True},
        {"precision": "bf16-mixed", "freeze": ["blocks.*"]},
    ],
    ids=["plain", "dropout", "bfloat16"],
)
def test_resume_is_bitwise_and_needs_no_model_to_begin_with(
    task: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(configured(tmp_path, task, "whole", **changes))
    first = train(configured(tmp_path, task, "parts", stop_after=3, **changes))
    assert first.step == 3
    shutil.rmtree(tmp_path / "base")
    saved = from_plain(TrainConfig, read_training_state(first.checkpoint).config)
    (tmp_path / "moved.tsv").write_bytes(saved.data.read_bytes())
    parts = train(replace(saved, data=tmp_path / "moved.tsv", resume=True, stop_after=None))
    assert parts.step == 6
    assert differing(whole.checkpoint, parts.checkpoint) == []
    states = [read_training_state(end.checkpoint) for end in (whole, parts)]
    assert (states[0].best, states[0].tokens) == (states[1].best, states[1].tokens)
    records = [read_metrics(tmp_path / out / FILE) for out in ("whole", "parts")]
    for one, other in zip(*records, strict=True):
        assert {**one, "tokens_per_s": 0} == {**other, "tokens_per_s": 0}


TWO = """
import os, sys
from dataclasses import replace
from pathlib import Path

from hyena.files.records import from_plain
from hyena.training import TrainConfig, train
import json

for file in sys.argv[1:]:
    train(from_plain(TrainConfig, json.loads(Path(file).read_text())))
sys.stdout.flush()
os._exit(0)
"""


def test_two_processes_equal_one(tmp_path: Path) -> None:
    import json

    from hyena.files.records import to_plain

    files = []
    tasks = "regression", "token-classification"  # means of rows and of tokens, numbers and classes
    for task in tasks:
        one = configured(tmp_path, task, f"one-{task}", precision="64", steps=3)
        train(one)
        file = tmp_path / f"{task}.json"
        two = replace(one, out=tmp_path / f"two-{task}", devices=2)
        file.write_text(json.dumps(to_plain(two)))
        files.append(file)
    run_script(TWO, *files, folder=tmp_path)
    for task in tasks:
        folders = [tmp_path / f"{name}-{task}" for name in ("one", "two")]
        for one, other in zip(*(read_metrics(f / FILE) for f in folders), strict=True):
            assert one.keys() == other.keys()
            for name in set(one) - {"tokens_per_s"}:
                assert other[name] == pytest.approx(one[name], rel=1e-9, abs=1e-12), name
        left, right = (tensors(folder / "checkpoints/step-00000003") for folder in folders)
        assert left.keys() == right.keys()
        for name, value in left.items():
            torch.testing.assert_close(right[name], value, rtol=1e-6, atol=1e-9)


def test_the_head_alone_is_trained_if_all_else_is_frozen(tmp_path: Path) -> None:
    freeze = ["embedding.*", "blocks.*", "norm.*"]
    result = train(configured(tmp_path, "classification", freeze=freeze))
    before, after = load_file(tmp_path / "base/model.safetensors"), tensors(result.checkpoint)
    for name, value in before.items():
        assert torch.equal(after[f"model.safetensors:{name}"], value)
    moments = {name for name in after if name.startswith("optimizer.safetensors:")}
    heads = {f"optimizer.safetensors:label_head.linear.{x}" for x in ("weight", "bias")}
    assert moments == {f"{name}.{x}" for name in heads for x in ("exp_avg", "exp_avg_sq", "step")}


def test_a_head_of_the_same_labels_is_trained_further(tmp_path: Path) -> None:
    first = train(configured(tmp_path, "classification", "first"))
    given = load_file(first.checkpoint / "model.safetensors")["label_head.linear.weight"]
    for task, same in (("classification", True), ("token-classification", False)):
        init = configured(tmp_path, task, f"next-{task}", init=first.checkpoint)
        config = resolved(init)
        objective = open_objective(config)
        model = build(config, find_start(config, {}), objective.labels)
        assert torch.equal(model.label_head.linear.weight, given) == same
        train(replace(init, steps=1))
    plain = configured(tmp_path, "classification", labels={"fraction": 0.1})
    plain = replace(plain, task="language-modeling")
    model = build(replace(plain, init=first.checkpoint, model=model.config), find_start(plain, {}))
    assert model.label_head is None


def test_a_head_of_next_tokens_that_is_not_the_embedding_stays(tmp_path: Path) -> None:
    base_model(tmp_path / "base", tied=False)
    result = train(configured(tmp_path, "classification"))
    before = load_file(tmp_path / "base/model.safetensors")
    after = load_file(result.checkpoint / "model.safetensors")
    assert torch.equal(before["head.weight"], after["head.weight"])
    assert not torch.equal(before["embedding.weight"], after["embedding.weight"])


def test_nothing_may_be_left_to_train_but_a_head_that_has_no_part(tmp_path: Path) -> None:
    base_model(tmp_path / "base", tied=False)
    freeze = ["embedding.*", "blocks.*", "norm.*", "label_head.*"]
    with pytest.raises(ValueError, match="freeze: nothing is left to train beside 'embedding"):
        train(configured(tmp_path, "classification", freeze=freeze))


def test_a_model_that_is_drawn_needs_a_tokenizer(tmp_path: Path) -> None:
    drawn = {"init": None, "steps": 1}
    model = {"vocab_size": 12, "width": 8, "layers": 1, "max_length": 32}
    config = configured(tmp_path, "regression", model=model, **drawn)
    with pytest.raises(
        FileNotFoundError, match="no tokenizer is saved with a model that is drawn; "
    ):
        train(config)
    named = configured(
        tmp_path, "regression", model=model, labels={"tokenizer": "hyenadna"}, **drawn
    )
    result = train(named)
    assert load_tokenizer(result.checkpoint).name == load_tokenizer("hyenadna").name
    assert hyena.load(result.checkpoint).label_head.labels.task == "regression"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 8}, "length is of windows of text, but the task is classification, whose sequ"),
        ({"cross_documents": True}, "cross_documents is of windows of text"),
        (
            {"labels": {"fraction": 1.0}},
            "labels.fraction: expected a share, from 0 to below 1, got",
        ),
        ({"labels": {"pool": "max"}}, "labels.pool: expected one of mean, last, got 'max'"),
        (
            {"labels": {"columns": ["a", "b"]}},
            "labels.columns: expected one column, beside that of",
        ),
        ({"labels": {"columns": []}}, "labels.columns: expected one column, .*; got none"),
        (
            {"labels": {"columns": "sequence"}},
            "labels.columns: expected one column, beside that of",
        ),
        (
            {"labels": {"columns": "x"}},
            "line 2: no column 'x' among 'sequence', 'label'; name it w",
        ),
        ({"labels": {"fraction": 0}}, "has no rows to evaluate on, since labels.fraction is 0; gi"),
        ({"labels": {"tokenizer": "evo"}}, "labels.tokenizer: evo was asked for, but the model in"),
        ({"batch": 3, "accumulate": 2}, "batch is 3, but has to be cut into devices"),
        (
            {"task": "language-modeling", "init": None},
            "labels is of the tasks with labels, but the task is language-modeling; give another",
        ),
        ({"task": "x"}, "task: expected one of language-modeling, classification, regression, tok"),
        ({"freeze": ["head.*"]}, "freeze: 'head.\\*' matches no parameter"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    task = {name: changes[name] for name in ("task",) if name in changes}
    others = {name: value for name, value in changes.items() if name != "task"}
    config = replace(configured(tmp_path, "classification", **others), **task)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not config.out.exists()


def test_other_rows_or_options_are_refused_when_it_resumes(tmp_path: Path) -> None:
    train(configured(tmp_path, "classification", stop_after=1))
    again = configured(tmp_path, "classification", resume=True, labels={"pool": "last"})
    with pytest.raises(ValueError, match=r"labels\.pool was 'mean', is 'last'"):
        train(again)
    write_table(tmp_path / "classification.tsv", rows("classification", 26))
    with pytest.raises(ValueError, match=r"are not those it was trained on \(different: train\)"):
        train(configured(tmp_path, "classification", resume=True))


def test_a_run_without_evaluation_needs_no_rows_held_out(tmp_path: Path) -> None:
    never = EvaluationConfig(every=0)
    labels = {"fraction": 0}
    train(configured(tmp_path, "classification", evaluation=never, labels=labels))
    assert not any("validation_loss" in r for r in read_metrics(tmp_path / "run" / FILE))


def test_rows_held_out_that_nothing_is_evaluated_on_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never = EvaluationConfig(every=0)
    train(configured(tmp_path, "classification", evaluation=never, steps=1))
    said = "6 rows are held out, but evaluation.every is 0: nothing is evaluated on them; labels.f"
    assert said in capsys.readouterr().err


def test_rows_held_out_without_a_label_are_refused(tmp_path: Path) -> None:
    unknown = write_lines(tmp_path / "v.jsonl", [{"sequence": "ACG", "label": [None] * 3}] * 2)
    config = configured(tmp_path, "token-classification", labels={"validation": unknown})
    with pytest.raises(ValueError, match=r"v\.jsonl: no letter of the rows that are held out has"):
        train(config)
    assert not config.out.exists()
    train(replace(config, evaluation=EvaluationConfig(every=0), steps=1))


def test_a_number_is_evaluated_on_whatever_it_is() -> None:
    rows = LabelledRows([np.ones(2, np.int32)], [np.array([float(IGNORE)])])
    labels = Labels("regression", ("x",), means=(0.0,), deviations=(1.0,))
    data = LabelledData(rows, rows, labels, BYTES, {}, [])
    assert LabelObjective(data, batch=1, accumulate=1, seed=0).evaluates(0)


def test_an_evaluation_that_gives_no_numbers_is_one_line(tmp_path: Path) -> None:
    config = configured(
        tmp_path, "regression", lr=1e30, steps=1, evaluation=EvaluationConfig(every=1)
    )
    with pytest.raises(
        RuntimeError, match=r"^validation_loss is (nan|inf) at step 1 \(lr 1e\+30\)"
    ):
        train(config)
    assert read_metrics(tmp_path / "run" / FILE) == []


def test_a_head_of_other_labels_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = train(configured(tmp_path, "regression", "first", steps=1))
    head = f"the model in {first.checkpoint} has a head for labels, which is left out: its"
    changes: dict[str, Any] = {"init": first.checkpoint, "steps": 1}
    train(configured(tmp_path, "regression", "same", **changes))
    assert "left out" not in capsys.readouterr().err
    train(configured(tmp_path, "regression", "last", labels={"pool": "last"}, **changes))
    assert f"{head} pool differs, and a new one is drawn" in capsys.readouterr().err
    write_table(tmp_path / "regression.tsv", rows("regression", 24, seed=8))
    train(configured(tmp_path, "regression", "more", **changes))
    assert f"{head} means, deviations differ, and a new one is drawn" in capsys.readouterr().err


def test_a_plan_is_of_windows(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="task: a plan is of windows of text, but the task is clas"
    ):
        plan_run(configured(tmp_path, "classification"))


def test_the_loss_is_cross_entropy(tmp_path: Path) -> None:
    """So that a constant in the definition above would be seen."""
    config = resolved(configured(tmp_path, "classification", precision="64"))
    objective = open_objective(config)
    model = build(config, find_start(config, {}), objective.labels)
    (part,) = objective.parts(0, 0, 1)
    outputs = label_outputs(model, part.input_ids, part.lengths)
    expected = F.cross_entropy(outputs, part.targets)
    torch.testing.assert_close(objective.loss(objective.module(model), part, CPU), expected)
