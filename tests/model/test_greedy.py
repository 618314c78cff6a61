"""The losses of targets and whether they are the likeliest tokens, by all logits at once."""

import pytest
import torch

import hyena
from hyena.arguments import IGNORE
from hyena.model.greedy import losses_and_greedy


def build(**settings: object) -> hyena.LanguageModel:
    values = {"width": 16, "layers": 2, "max_length": 32, "vocab_size": 11, **settings}
    generator = torch.Generator().manual_seed(3)
    config = hyena.ModelConfig(**values)  # type: ignore[arg-type]
    model = hyena.LanguageModel(config, generator=generator, dtype=torch.float64)
    model.embedding.weight.data.mul_(20)
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("slice_bytes", [1, 1 << 25])
def test_they_are_those_of_all_logits(
    tied: bool, slice_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.model.greedy.LOGITS_BYTES", slice_bytes)
    model = build(tied=tied)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(11, (3, 17), generator=generator)
    likeliest = model(ids).argmax(-1)
    targets = torch.randint(11, (3, 17), generator=generator)
    targets[:, ::2] = likeliest[:, ::2]  # or few would be
    targets[1, 5:] = IGNORE
    losses, greedy = losses_and_greedy(model, ids, targets)
    torch.testing.assert_close(losses, model.token_losses(ids, targets), rtol=1e-12, atol=1e-12)
    assert bool((greedy == (likeliest == targets)).all())
    assert greedy.sum() > 20
    assert not bool(greedy[1, 5:].any())


def test_without_targets_there_are_no_losses() -> None:
    ids = torch.zeros(2, 5, dtype=torch.int64)
    losses, greedy = losses_and_greedy(build(), ids, torch.full((2, 5), IGNORE))
    assert not bool(losses.any() | greedy.any())


def test_a_head_with_a_hook_is_called() -> None:
    model = build(tied=False)
    ids = torch.arange(8)[None]
    before, _ = losses_and_greedy(model, ids, ids)
    assert model.head is not None
    model.head.register_forward_hook(lambda module, inputs, z: z * 0)
    losses, _ = losses_and_greedy(model, ids, ids)
    assert not torch.equal(before, losses)
    torch.testing.assert_close(losses, torch.full_like(losses, 11).log())


def test_targets_are_checked() -> None:
    ids = torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="token id 11 is outside the vocabulary of 11"):
        losses_and_greedy(build(), ids, ids + 11)
    with pytest.raises(ValueError, match=r"expected int64 targets \(1, 4\) like input_ids"):
        losses_and_greedy(build(), ids, ids[:, 1:])
