import torch

from hyena.tasks import IGNORE, Batch, MultiQueryRecall


def test_the_loss_is_on_the_keys_asked_for_alone(generator) -> None:
    task = MultiQueryRecall(length=64, vocab_size=40, pairs=8)
    inputs, targets, answers = task.sample(100, generator, "train")
    assert torch.equal(answers, targets != IGNORE)
    assert not bool(answers[:, :16].any())
    assert torch.equal(answers[:, 16:], inputs[:, 16:] > 0)
    assert torch.equal(answers.sum(1), torch.full((100,), 8))


def test_as_many_pairs_as_fit_without_a_number() -> None:
    assert MultiQueryRecall(length=1024, vocab_size=30).pairs == 14
    assert MultiQueryRecall(length=30, vocab_size=100).pairs == 7


def test_keys_are_asked_for_by_a_power_law(generator) -> None:
    """With one key, slot s is taken with probability s^-0.99 / Σ s^-0.99."""
    task = MultiQueryRecall(length=18, vocab_size=300, pairs=1)  # 8 slots
    answers = torch.cat([task.sample(5000, generator, s).answers for s in ("train", "test")])
    weight = torch.arange(1, 9).double() ** -0.99
    share = answers.double().mean(0)[2::2]
    assert (share - weight / weight.sum()).abs().max() < 5 * 0.5 / 10_000**0.5
    assert not bool(answers[:, 3::2].any())


def test_any_order_of_the_questions_occurs(generator) -> None:
    task = MultiQueryRecall(length=14, vocab_size=30, pairs=3)
    orders = set()
    for row in task.sample(1000, generator, "train").inputs.tolist():
        keys = row[:6:2]
        orders.add(tuple(keys.index(token) for token in row[6:] if token))
    assert len(orders) == 6


def test_keys_differ_and_values_are_drawn_with_replacement(generator) -> None:
    task = MultiQueryRecall(length=16, vocab_size=9, pairs=4)
    inputs = task.sample(2000, generator, "train").inputs
    assert {tuple(sorted(row)) for row in inputs[:, :8:2].tolist()} == {(1, 2, 3, 4)}
    different = [len(set(row)) == 4 for row in inputs[:, 1:8:2].tolist()]
    assert abs(sum(different) / 2000 - 4 * 3 * 2 / 4**4) < 0.03
    assert len({tuple(row) for row in inputs[:, :8:2].tolist()}) == 24  # any order of the keys


def test_shown_with_each_answer_after_its_key() -> None:
    task = MultiQueryRecall(length=13, vocab_size=7, pairs=2)
    inputs = torch.tensor([[1, 4, 3, 6, 0, 0, 3, 0, 1, 0, 0, 0, 0]])
    targets = torch.full((1, 13), IGNORE)
    targets[0, 6], targets[0, 8] = 6, 4
    shown = task.show(Batch(inputs, targets, targets != IGNORE), 0)
    assert shown == "a 1 c 3 | .×2 c → 3 .×1 a → 1 .×4"
