import pytest
import torch

from hyena.tasks import IGNORE, Addition, Batch, exact_match


@pytest.mark.parametrize("digits", [1, 3, 16, 40])
def test_the_first_losses_are_masked_and_the_sum_is_asked(digits: int, generator) -> None:
    task = Addition(digits=digits)
    assert (task.length, task.vocab_size, task.features) == (3 * digits, 10, 0)
    inputs, targets, answers = task.sample(50, generator, "train")
    masked = 2 * digits - 1
    assert bool((targets[:, :masked] == IGNORE).all())
    assert torch.equal(answers, targets != IGNORE)
    assert torch.equal(answers.sum(1), torch.full((50,), digits + 1))
    assert torch.equal(targets[:, masked:-1], inputs[:, masked + 1 :])


def test_all_problems_of_one_digit_are_in_one_of_the_splits(generator) -> None:
    task = Addition(digits=1)
    train, test = (
        {tuple(row) for row in task.sample(5000, generator, split).inputs[:, :2].tolist()}
        for split in ("train", "test")
    )
    assert train.isdisjoint(test)
    assert len(train | test) == 100
    assert len(test) == 13


def test_digits_are_uniform(generator) -> None:
    digits = Addition(digits=3).sample(8000, generator, "train").inputs[:, :6]
    for place in range(6):
        share = torch.bincount(digits[:, place], minlength=10) / 8000
        assert (share - 0.1).abs().max() < 0.03


def test_exact_match_is_of_the_whole_sum(generator) -> None:
    batch = Addition(digits=3).sample(4, generator, "train")
    predicted = batch.targets.clone()
    predicted[:, :5] = 0  # what has no loss does not count
    assert exact_match(predicted, batch).tolist() == [True] * 4
    predicted[1, 5] = (predicted[1, 5] + 1) % 10
    predicted[2, 8] = (predicted[2, 8] + 1) % 10
    assert exact_match(predicted, batch).tolist() == [True, False, False, True]


def test_exact_match_needs_a_prediction_at_each_position(generator) -> None:
    batch = Addition(digits=1).sample(2, generator, "train")
    with pytest.raises(
        ValueError, match=r"^exact_match: expected .* \(2, 3\), got \(2, 2\) of torch.int64$"
    ):
        exact_match(batch.targets[:, 1:], batch)


def test_shown_as_digits_and_as_numbers() -> None:
    inputs = torch.tensor([[1, 2, 3, 0, 5, 4, 0, 1, 7]])
    targets = torch.tensor([[IGNORE] * 5 + [0, 1, 7, 7]])
    line = Addition(digits=3).show(Batch(inputs, targets, targets >= 0), 0)
    assert line == "1 2 3 0 5 4 → 0 1 7 7 (123 + 54 = 177)"
