"""How well labels are predicted, against each prediction counted by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_rows import BYTES, TASKS, rows, sequences, write_lines, write_table
from test_predictions import build

from hyena.finetuning import LabelEvaluation, evaluate_labels, predict
from hyena.finetuning.evaluation import Labels
from hyena.model import LanguageModel

LABELS = {
    "classification": Labels("classification", ("poor", "rich")),
    "regression": Labels("regression", ("label",), means=(12.0,), deviations=(1.5,)),
    "token-classification": Labels("token-classification", ("S", "w"), begin=False),
}
TABLES = {task: [row for row in rows(task, 30, seed=4)] for task in TASKS}


def evaluated(task: str, file: Path, **options: Any) -> tuple[LanguageModel, LabelEvaluation]:
    model = build(LABELS[task])
    return model, evaluate_labels(model, BYTES, file, **options)


@pytest.mark.parametrize("both_strands", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_metrics_are_those_of_the_predictions(
    task: str, both_strands: bool, tmp_path: Path
) -> None:
    table, done = TABLES[task], list[tuple[int, int]]()
    file = write_table(tmp_path / "a.tsv", table)
    model, found = evaluated(
        task,
        file,
        both_strands=both_strands,
        batch=3,
        progress=lambda *x: done.append(x),
    )
    texts, truth = [text for text, _ in table], [label for _, label in table]
    each = list(predict(model, BYTES, texts, both_strands=both_strands))
    assert done == [(i, 30) for i in range(1, 31)]
    assert found.rows == 30
    if task == "regression":
        guessed = np.array([one.values[0] for one in each if one.values is not None])
        errors = guessed - np.array(truth)
        expected = {
            "loss": np.mean((errors / 1.5) ** 2),
            "pearson": np.corrcoef(guessed, truth)[0, 1],
            "rmse": np.sqrt(np.mean(errors**2)),
        }
        assert found.metrics == pytest.approx(expected, rel=1e-9)
        return
    names = LABELS[task].names
    pairs = [
        (names.index(label), p)
        for one, of_row in zip(each, truth, strict=True)
        for label, p in zip(
            [of_row] if task == "classification" else of_row,
            np.atleast_2d(one.probabilities),
            strict=True,
        )
    ]
    right = [place == p.argmax() for place, p in pairs]
    assert found.metrics["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)
    losses = [-np.log(p[place]) for place, p in pairs]
    assert found.metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-9)
    assert found.metrics.keys() == {"loss", "accuracy", "f1", "mcc"}


def test_letters_without_a_label_do_not_count(tmp_path: Path) -> None:
    texts = sequences(4, seed=4)
    known = [list("Sw" * 7)[: len(text)] for text in texts]
    some = [[None, *labels[1:]] for labels in known]
    records = [{"sequence": x, "label": y} for x, y in zip(texts, some, strict=True)]
    _, found = evaluated("token-classification", write_lines(tmp_path / "a.jsonl", records))
    model = build(LABELS["token-classification"])
    right = [
        guess == label
        for one, labels in zip(predict(model, BYTES, texts), some, strict=True)
        for guess, label in zip(one.labels or (), labels, strict=True)
        if label is not None
    ]
    assert found.metrics["accuracy"] == pytest.approx(np.mean(right), rel=1e-12)


def test_columns_are_those_that_were_trained_on_or_those_given(tmp_path: Path) -> None:
    numbers = Labels("regression", ("x", "y"), means=(0.0, 1.0), deviations=(1.0, 2.0))
    model, texts = build(numbers), sequences(5)
    table = [(text, i, i * i) for i, text in enumerate(texts)]
    file = write_table(tmp_path / "a.tsv", table, "sequence x y")
    other = write_table(tmp_path / "b.tsv", table, "dna one two")
    found = evaluate_labels(model, BYTES, file)
    again = evaluate_labels(model, BYTES, other, sequence="dna", columns=["one", "two"])
    assert found == again
    assert {"rmse_x", "rmse_y", "pearson_y"} <= found.metrics.keys()
    with pytest.raises(ValueError, match="columns: expected one for each of x, y, got one"):
        evaluate_labels(model, BYTES, other, sequence="dna", columns="one")
    with pytest.raises(ValueError, match="columns: expected one, got a, b"):
        evaluated("classification", file, columns=["a", "b"])


@pytest.mark.parametrize(
    ("task", "table", "message"),
    [
        ("classification", [("AC", "rich"), ("A", "odd")], "line 3: class 'odd' is none of those"),
        ("classification", [("AC", "rich"), ("A" * 40, "poor")], "line 3: it has 40 tokens, but"),
        ("regression", [("AC", "high")], "line 2: expected a finite number in column 'label'"),
        ("regression", [("AC", "1e200")], "line 2: 1e+200 in column 'label' is out of all propo"),
        ("token-classification", [("AC", "S")], "line 2: the sequence has 2 letters, but column"),
        ("token-classification", [("é", "S")], "line 2: 1 letter became 2 tokens that are not"),
        ("classification", [], "a.tsv has no rows"),
    ],
)
def test_what_cannot_be_measured_is_one_line_that_names_the_row(
    task: str, table: list[tuple[str, str]], message: str, tmp_path: Path
) -> None:
    file = write_table(tmp_path / "a.tsv", table)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        evaluated(task, file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_has_no_labels_is_refused(tmp_path: Path) -> None:
    nothing = write_lines(tmp_path / "a.jsonl", [{"sequence": "AC", "label": [None, None]}])
    with pytest.raises(ValueError, match=r"a\.jsonl: no letter of any row has a label"):
        evaluated("token-classification", nothing)
    plain = build(LABELS["classification"])
    with pytest.raises(ValueError, match="tokenizer: expected one such as"):
        evaluate_labels(plain, None, nothing)  # type: ignore[arg-type]
    plain.label_head = None
    with pytest.raises(ValueError, match=r"^evaluate_labels: the model has no head for labels"):
        evaluate_labels(plain, BYTES, nothing)
