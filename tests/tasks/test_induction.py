from collections import Counter

import torch

from hyena.tasks import IGNORE, InductionHead


def test_the_loss_is_on_the_copied_tokens_alone(generator) -> None:
    task = InductionHead(length=50, vocab_size=9, copy_length=4, triggers=2)
    assert task.length == 54
    inputs, targets, answers = task.sample(100, generator, "train")
    assert torch.equal(answers, targets != IGNORE)
    assert not bool(answers[:, :50].any())
    assert bool(answers[:, 50:].all())
    assert bool((inputs[:, 50] == 8).all())
    assert torch.equal(inputs[:, 51:], targets[:, 50:-1])


def test_a_trigger_may_stand_at_every_place(generator) -> None:
    task = InductionHead(length=10, vocab_size=12)
    inputs = task.sample(8000, generator, "train").inputs
    places = (inputs[:, :10] == 11).double().mean(0)
    assert places[9] == 0  # nothing of the text could follow it
    assert (places[:9] - 1 / 9).abs().max() < 5 * (1 / 9 / 8000) ** 0.5


def test_triggers_do_not_overlap_even_where_they_fill_the_text(generator) -> None:
    task = InductionHead(length=12, vocab_size=12, copy_length=2, triggers=4)
    inputs = task.sample(300, generator, "train").inputs
    assert bool((inputs[:, :12:3] == 11).all())
    task = InductionHead(length=13, vocab_size=12, copy_length=2, triggers=4)
    inputs = task.sample(300, generator, "train").inputs
    places = Counter(tuple((row[:13] == 11).nonzero().flatten().tolist()) for row in inputs)
    assert len(places) == 5  # the one token left stands before a block or behind all


def test_text_and_copied_tokens_are_uniform(generator) -> None:
    task = InductionHead(length=70, vocab_size=8)
    inputs, targets, _ = task.sample(5000, generator, "train")
    text = inputs[:, 66:68].flatten()
    for tokens in (targets[:, -1], text[text < 7]):
        counts = torch.bincount(tokens, minlength=7) / len(tokens)
        assert (counts - 1 / 7).abs().max() < 5 * (1 / 7 / len(tokens)) ** 0.5


def test_shown_with_what_is_to_be_copied(generator) -> None:
    task = InductionHead(length=8, vocab_size=5, copy_length=2)
    line = task.show(task.sample(1, generator, "train"), 0)
    prompt, copied = line.split(" → ")
    words = prompt.split()
    assert (len(words), words.count("#"), words[-1]) == (9, 2, "#")
    first = words.index("#")
    assert words[first + 1 : first + 3] == copied.split()
