from collections import Counter

import pytest
import torch

from hyena.tasks import IGNORE, Batch, Counting


def test_the_loss_is_on_the_last_position_alone(generator) -> None:
    _, targets, answers = Counting(length=20).sample(100, generator, "train")
    assert bool((targets[:, :-1] == IGNORE).all())
    assert torch.equal(answers, targets != IGNORE)
    assert bool(answers[:, -1].all())


@pytest.mark.parametrize(("length", "vocabulary", "most"), [(2, 12, 2), (9, 40, 9), (50, 13, 6)])
def test_every_number_is_equally_likely(length, vocabulary, most, generator) -> None:
    task = Counting(length=length, vocab_size=vocabulary)
    inputs, targets, _ = task.sample(6000, generator, "train")
    counts = Counter((inputs == inputs[:, -1:]).sum(1).tolist())
    assert set(counts) == set(range(1, most + 1))
    if length > 2:  # of so few prompts the split takes an uneven share
        assert all(abs(n / 6000 - 1 / most) < 0.03 for n in counts.values())
    assert int(targets[:, -1].min()) == vocabulary - vocabulary // 2  # the number 1


def test_places_and_letters_are_uniform(generator) -> None:
    task = Counting(length=100, vocab_size=10)
    inputs, _, _ = task.sample(5000, generator, "train")
    letter = inputs[:, -1:]
    assert (torch.bincount(letter[:, 0], minlength=5) / 5000 - 0.2).abs().max() < 0.03
    here = (inputs == letter).double().mean(0)[:-1]
    assert (here - 2 / 99).abs().max() < 5 * (2 / 99 / 5000) ** 0.5
    others = (inputs - letter)[inputs != letter] % 5
    counts = torch.bincount(others, minlength=5) / len(others)
    assert (counts[1:] - 0.25).abs().max() < 0.01


def test_shown_with_the_number() -> None:
    inputs = torch.tensor([[0, 1, 1, 1, 0, 2, 1]])
    targets = torch.tensor([[IGNORE] * 6 + [9]])
    line = Counting(length=7, vocab_size=12).show(Batch(inputs, targets, targets >= 0), 0)
    assert line == "a b b b a c b → 4"
