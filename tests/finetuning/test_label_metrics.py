"""Metrics against their definitions."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hyena.finetuning.metrics import ClassTally, NumberTally
from hyena.model.label_head import Labels


def f1(truth: NDArray[Any], found: NDArray[Any]) -> float:
    """The mean of each class's F1, by counting."""
    scores = []
    for one in sorted({*truth.tolist(), *found.tolist()}):
        right = sum((truth == one) & (found == one))
        precision = right / max(1, sum(found == one))
        recall = right / max(1, sum(truth == one))
        scores.append(2 * precision * recall / (precision + recall) if right else 0.0)
    return float(np.mean(scores))


def mcc(truth: NDArray[Any], found: NDArray[Any], classes: int) -> float:
    """The correlation of the indicators of the classes (Gorodkin 2004, eq. 8)."""
    x, y = np.eye(classes)[truth], np.eye(classes)[found]
    x, y = x - x.mean(0), y - y.mean(0)
    return float((x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum()))


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_metrics_of_classes(classes: int) -> None:
    draw = np.random.default_rng(classes)
    logits = torch.from_numpy(draw.normal(size=(50, classes)))
    truth = draw.integers(0, classes - 1 if classes == 6 else classes, 50)  # one has no member
    tally = ClassTally(Labels("classification", tuple(map(str, range(classes)))))
    for part in np.array_split(np.arange(50), 4):
        tally.add(logits[part], torch.from_numpy(truth[part]))
    tally.add(logits[:0], torch.zeros(0, dtype=torch.int64))
    found, guessed = tally.metrics(), logits.argmax(-1).numpy()
    losses = [-float(row.log_softmax(-1)[i]) for row, i in zip(logits, truth, strict=True)]
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-12)
    assert found["accuracy"] == pytest.approx((guessed == truth).mean(), rel=1e-12)
    assert found["f1"] == pytest.approx(f1(truth, guessed), rel=1e-12)
    assert found["mcc"] == pytest.approx(mcc(truth, guessed, classes), rel=1e-12)


def test_a_guess_that_is_always_the_same_has_no_correlation() -> None:
    tally = ClassTally(Labels("classification", ("a", "b")))
    tally.add(torch.tensor([[1.0, 0.0]] * 4), torch.tensor([0, 0, 0, 1]))
    found = tally.metrics()
    assert (found["accuracy"], found["mcc"]) == (0.75, 0.0)
    assert found["f1"] == pytest.approx((2 * 3 / 7 + 0) / 2)


def test_tallies_of_classes_add_up() -> None:
    labels = Labels("classification", ("a", "b", "c"))
    logits = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    truth = torch.arange(20) % 3
    whole, *parts = (ClassTally(labels) for _ in range(3))
    whole.add(logits, truth)
    for i, part in enumerate(parts):
        part.add(logits[i::2], truth[i::2])
    parts[0].shared = parts[0].shared + parts[1].shared
    assert parts[0].metrics() == pytest.approx(whole.metrics(), rel=1e-12)


@pytest.mark.parametrize("targets", [1, 3])
def test_metrics_of_numbers(targets: int) -> None:
    draw = np.random.default_rng(targets)
    truth, guessed = draw.normal(size=(30, targets)), draw.normal(size=(30, targets))
    names = tuple("abc"[:targets])
    units = tuple(float(x) for x in draw.uniform(1, 5, targets))
    labels = Labels("regression", names, means=(2.0,) * targets, deviations=units)
    tally = NumberTally(labels, torch.from_numpy(truth))
    for part in np.array_split(np.arange(30), 4):
        tally.add(part.tolist(), torch.from_numpy(guessed[part]))
    found = tally.metrics()
    pearson = [np.corrcoef(truth[:, i], guessed[:, i])[0, 1] for i in range(targets)]
    rmse = [
        math.sqrt(((truth[:, i] - guessed[:, i]) ** 2).mean()) * units[i] for i in range(targets)
    ]
    expected = {"loss": ((truth - guessed) ** 2).mean(), "pearson": np.mean(pearson)}
    if targets == 1:
        expected["rmse"] = rmse[0]
    else:
        expected |= {f"pearson_{name}": r for name, r in zip(names, pearson, strict=True)}
        expected |= {f"rmse_{name}": x for name, x in zip(names, rmse, strict=True)}
    assert found == pytest.approx(expected, rel=1e-12)


def test_what_is_constant_has_no_correlation() -> None:
    labels = Labels("regression", ("a", "b"), means=(0.0, 0.0), deviations=(1.0, 1.0))
    tally = NumberTally(labels, torch.tensor([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0]]))
    tally.add([0, 1, 2], torch.tensor([[0.1, 1.0], [0.1, 3.0], [0.1, 2.0]]))
    found = tally.metrics()
    assert found["pearson"] == pytest.approx(1.0)
    assert "pearson_a" not in found
    assert found["rmse_b"] == 0.0
