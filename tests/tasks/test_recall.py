"""Associative recall in both layouts."""

import numpy as np
import pytest
import torch

from hyena.tasks import AssociativeRecall, Batch, PlainRecall

both = pytest.mark.parametrize("kind", [AssociativeRecall, PlainRecall])


@both
def test_the_loss_is_on_every_position_and_the_answer_on_the_last(kind, generator) -> None:
    task = kind(length=40, vocab_size=12)
    inputs, targets, answers = task.sample(50, generator, "train")
    assert torch.equal(targets[:, :-1], inputs[:, 1:])
    assert not bool(answers[:, :-1].any())
    assert bool(answers[:, -1].all())


def test_the_tokens_of_the_public_layout() -> None:
    task = AssociativeRecall(length=16, vocab_size=11)
    assert (task.vocab_size, task.length, task.features) == (11, 18, 0)
    assert (task.keys, task.values, task.prefix) == (4, 5, 10)  # 9 tokens between . and =>


def test_the_tokens_of_the_plain_layout() -> None:
    task = PlainRecall(length=16, vocab_size=11)
    assert (task.vocab_size, task.length, task.features, task.keys) == (11, 17, 0, 5)


@both
def test_every_key_and_value_is_equally_likely(kind, generator) -> None:
    task = kind(length=64, vocab_size=12)
    batch = task.sample(3000, generator, "train")
    first = 1 if kind is AssociativeRecall else 0
    for tokens, start, number in (
        (batch.inputs[:, 0], first, task.keys),
        (batch.inputs[:, 62], first, task.keys),
        (batch.inputs[:, -1], first, task.keys),
        (batch.targets[:, -1], first + task.keys, 12 - 2 * first - task.keys),
    ):
        counts = torch.bincount(tokens - start, minlength=number)
        assert len(counts) == number
        share = 1 / number
        error = (counts / 3000 - share).abs().max()
        assert error < 5 * (share * (1 - share) / 3000) ** 0.5


@both
def test_values_are_drawn_with_replacement_and_maps_anew(kind, generator) -> None:
    """All four of 4 keys have different values of 4 in 4!/4^4 = 9.4% of the sequences."""
    task = kind(length=200, vocab_size=10 if kind is AssociativeRecall else 8)
    inputs = task.sample(2000, generator, "train").inputs[:, :200]
    maps = [dict(zip(row[::2], row[1::2], strict=True)) for row in inputs.tolist()]
    assert all(len(known) == 4 for known in maps)
    different = sum(len(set(known.values())) == 4 for known in maps) / 2000
    assert abs(different - 0.09375) < 0.03
    assert len({tuple(sorted(known.items())) for known in maps}) == 256  # all that there are


@both
def test_the_key_asked_for_is_uniform_among_those_that_occurred(kind, generator) -> None:
    """Not among the pairs: with keys a, a, b each of the two is asked for half of the time."""
    task = kind(length=6, vocab_size=14)
    asked_more_frequent = total = 0
    for row in task.sample(20_000, generator, "train").inputs.tolist():
        keys, asked = row[:6:2], row[-1]
        assert asked in keys
        if len(set(keys)) == 2:
            total += 1
            asked_more_frequent += keys.count(asked) == 2
    assert total > 2000
    assert abs(asked_more_frequent / total - 0.5) < 5 * 0.5 / total**0.5


def test_shown_as_letters_and_numbers() -> None:
    tokens = torch.tensor([[1, 5, 3, 6, 1, 5, 9, 3]])
    batch = Batch(tokens, torch.tensor([[0, 0, 0, 0, 0, 0, 0, 6]]), tokens > 0)
    assert AssociativeRecall(length=6, vocab_size=10).show(batch, 0) == "a 1 c 2 a 1 => c → 2"
    tokens = torch.tensor([[0, 4, 2, 5, 0, 4, 2]])
    batch = Batch(tokens, torch.tensor([[0, 0, 0, 0, 0, 0, 5]]), tokens > 0)
    assert PlainRecall(length=6, vocab_size=8).show(batch, 0) == "a 1 c 2 a 1 c → 2"


def test_131_072_tokens(generator) -> None:
    task = AssociativeRecall(length=131_072, vocab_size=30)
    inputs, targets, answers = task.sample(4, generator, "test")
    assert inputs.shape == (4, 131_074)
    assert int(answers.sum()) == 4
    for row, value in zip(inputs.tolist(), targets[:, -1].tolist(), strict=True):
        assert row[row.index(row[-1]) + 1] == value


@both
def test_sequences_of_few_keys(kind, generator) -> None:
    task = kind(length=60, vocab_size=20, most_keys=4)
    inputs = task.sample(600, generator, "train").inputs[:, :60:2]
    sizes = [len(set(row)) for row in inputs.tolist()]
    assert set(sizes) <= {2, 3, 4}  # 1 with a chance of 2^-29
    for size in (2, 3, 4):
        assert abs(sizes.count(size) / 600 - 1 / 3) < 0.1
    assert len(inputs.unique()) == task.keys


@both
def test_sequences_of_an_alphabet(kind, generator) -> None:
    task, whole = (kind(length=60, vocab_size=20, alphabet=keys) for keys in (3, None))
    tokens, values = (
        sorted(t.sample(600, generator, "train").inputs[:, i:60:2].unique().tolist())
        for t, i in ((task, 0), (task, 1))
    )
    all_keys, all_values = (
        sorted(whole.sample(600, generator, "train").inputs[:, i:60:2].unique().tolist())
        for i in (0, 1)
    )
    assert tokens == all_keys[:3]
    assert values == all_values[:3]
    few = kind(length=60, vocab_size=20, alphabet=5, most_keys=2).sample(100, generator, "train")
    assert all(len(row[:60:2].unique()) <= 2 for row in few.inputs)
    assert len(few.inputs[:, :60:2].unique()) == 5


@both
@pytest.mark.parametrize("name", ["most_keys", "alphabet"])
@pytest.mark.parametrize("keys", [1, 11])
def test_a_number_of_keys_that_cannot_be(kind, name, keys) -> None:
    with pytest.raises(ValueError, match=rf"{name}: expected 2 to (9|10), since .* got (1|11)"):
        kind(length=60, vocab_size=20, **{name: keys})


@both
def test_numbers_of_8_bits_do_not_wrap_around(kind, generator) -> None:
    of_8_bits, task = (
        kind(length=60, vocab_size=600, most_keys=number(255), alphabet=number(255))
        for number in (np.uint8, int)
    )
    assert [type(x) for x in (of_8_bits.most_keys, of_8_bits.alphabet)] == [int, int]
    generators = (torch.Generator().manual_seed(1) for _ in range(2))
    found, expected = (
        t.sample(count, g, "test").inputs
        for t, count, g in zip((of_8_bits, task), (np.uint8(200), 200), generators, strict=True)
    )
    assert torch.equal(found, expected)


@both
def test_more_keys_than_the_alphabet_has(kind) -> None:
    with pytest.raises(ValueError, match="most_keys: expected at most the 3 keys of the alphabet"):
        kind(length=60, vocab_size=20, most_keys=4, alphabet=3)
