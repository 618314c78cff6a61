from collections import Counter

import pytest
import torch

from hyena.tasks import IGNORE, Batch, Majority


def test_the_loss_is_on_the_last_position_alone(generator) -> None:
    _, targets, answers = Majority(length=20).sample(100, generator, "train")
    assert bool((targets[:, :-1] == IGNORE).all())
    assert torch.equal(answers, targets != IGNORE)
    assert bool(answers[:, -1].all())


@pytest.mark.parametrize(("length", "numbers"), [(3, {2}), (8, {5, 6}), (40, set(range(21, 31)))])
def test_how_often_the_token_occurs(length: int, numbers: set[int], generator) -> None:
    task = Majority(length=length, vocab_size=20)
    inputs, targets, _ = task.sample(4000, generator, "train")
    counts = Counter((inputs == targets[:, -1:]).sum(1).tolist())
    assert set(counts) == numbers
    for number in numbers:
        assert abs(counts[number] / 4000 - 1 / len(numbers)) < 0.05


def test_places_and_tokens_are_uniform(generator) -> None:
    task = Majority(length=100, vocab_size=5)
    inputs, targets, _ = task.sample(5000, generator, "train")
    token = targets[:, -1]
    assert (torch.bincount(token, minlength=5) / 5000 - 0.2).abs().max() < 0.03
    here = (inputs == token[:, None]).double().mean(0)
    assert (here - here.mean()).abs().max() < 5 * 0.5 / 5000**0.5
    others = (inputs - token[:, None])[inputs != token[:, None]] % 5
    counts = torch.bincount(others, minlength=5) / len(others)
    assert counts[0] == 0
    assert (counts[1:] - 0.25).abs().max() < 0.01


def test_shown_as_letters() -> None:
    inputs = torch.tensor([[0, 6, 6, 6, 4, 5, 6]])
    targets = torch.tensor([[IGNORE] * 6 + [6]])
    line = Majority(length=7, vocab_size=9).show(Batch(inputs, targets, targets >= 0), 0)
    assert line == "a g g g e f g → g"
