import pytest
import torch
from task_solvers import linear_functions

from hyena.tasks import Batch, LinearFunctions, TaskConfig, least_squares_errors


@pytest.mark.parametrize(("dimension", "pairs"), [(1, None), (3, 9), (5, None), (4, 3)])
def test_the_solver_finds_the_values(dimension: int, pairs: int | None, generator) -> None:
    config = TaskConfig(name="linear-functions", dimension=dimension, pairs=pairs)
    task = LinearFunctions(dimension=dimension, pairs=pairs)
    for split in ("train", "test"):
        drawn = task.sample(100, generator, split)
        for prompt, targets, answers in zip(*drawn, strict=True):
            expected = linear_functions(prompt.tolist(), config)
            assert answers.nonzero().flatten().tolist() == sorted(expected)
            for t, value in expected.items():
                if value is not None:
                    assert targets[t].item() == pytest.approx(value, rel=1e-3, abs=1e-3)


def test_losses_stand_at_the_vectors_and_values_follow(generator) -> None:
    task = LinearFunctions(dimension=3, pairs=4)
    assert (task.length, task.features, task.vocab_size) == (7, 4, 0)
    inputs, targets, answers = task.sample(50, generator, "train")
    assert torch.equal(~targets.isnan(), answers)
    assert torch.equal(answers, torch.tensor([[True, False] * 3 + [True]]).expand(50, 7))
    assert torch.equal(inputs[:, 1::2, -1], targets[:, :-1:2])


def test_vectors_and_functions_are_normal(generator) -> None:
    task = LinearFunctions(dimension=4, pairs=6)
    inputs, targets, _ = task.sample(5000, generator, "train")
    for x in (inputs[:, 0, :-1], inputs[:, 10, :-1]):
        assert abs(float(x.mean())) < 0.05
        assert abs(float(x.var()) - 1) < 0.05
    y = targets[:, ::2]
    assert abs(float(y.mean())) < 0.1
    assert abs(float(y.var()) - 4) < 0.3  # d


def test_no_first_vector_is_in_both_splits(generator) -> None:
    task = LinearFunctions(dimension=1, pairs=1)
    train, test = (
        set(task.sample(20_000, generator, split).inputs[:, 0, 0].tolist())
        for split in ("train", "test")
    )
    assert train.isdisjoint(test)


def test_least_squares_errors_of_known_prompts() -> None:
    """w = (2, 3); the second vector is the first one's double, the third is orthogonal to both."""
    x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    y = torch.tensor([2.0, 4.0, 3.0, 25.0])
    inputs = torch.zeros(1, 7, 3)
    inputs[0, ::2, :2], inputs[0, 1::2, 2] = x, y[:-1]
    targets = torch.full((1, 7), torch.nan)
    targets[0, ::2] = y
    errors = least_squares_errors(Batch(inputs, targets, ~targets.isnan()))
    assert errors.dtype == torch.float64
    # Before any example the answer is 0; the shortest w after one and two is (2, 0).
    assert errors[0].tolist() == pytest.approx([4.0, 0.0, 9.0, 0.0], abs=1e-20)


def test_least_squares_are_as_good_as_theory_says(generator) -> None:
    """After k < d examples the shortest solution leaves an expected error of d − k, then none."""
    batch = LinearFunctions(dimension=4).sample(3000, generator, "test")
    errors = least_squares_errors(batch)
    assert errors.shape == (3000, 9)
    for k in range(4):
        assert abs(errors[:, k].mean().item() - (4 - k)) < 5 * errors[:, k].std().item() / 3000**0.5
    assert errors[:, 5:].max() < 1e-3


def test_shown_as_vectors_and_values() -> None:
    inputs = torch.tensor([[[0.314, -1.2, 0.0], [0.0, 0.0, 0.75], [1.0, 2.0, 0.0]]])
    targets = torch.tensor([[0.75, torch.nan, -3.0]])
    line = LinearFunctions(dimension=2, pairs=2).show(Batch(inputs, targets, ~targets.isnan()), 0)
    assert line == "(0.31, -1.20) → 0.75, (1.00, 2.00) → -3.00"
