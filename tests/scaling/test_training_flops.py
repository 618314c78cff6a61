"""Operations of a whole training."""

import pytest

from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.scaling import training_flops


def model(mixers: str, **changes: object) -> LanguageModel:
    config = ModelConfig(
        vocab_size=12,
        width=8,
        layers=2,
        mlp_width=16,
        mixers=mixers,
        head_dim=4,
        max_length=32,
        filter=FilterConfig(emb_dim=3, width=4, depth=2),
    )
    return LanguageModel(ModelConfig(**{**vars(config), **changes}))  # type: ignore[arg-type]


@pytest.mark.parametrize("mixers", ["hyena", "attention", "hyena,attention"])
@pytest.mark.parametrize("batch", [1, 3])
def test_they_are_three_forward_passes_of_all_tokens(mixers: str, batch: int) -> None:
    found = training_flops(model(mixers), 32, 960, batch)
    table = model(mixers).flops(32, batch)
    passes = 960 / (32 * batch)
    assert found.paper == pytest.approx(3 * passes * table.paper.causal)
    assert found.executed == pytest.approx(3 * passes * table.executed.causal)
    twice = training_flops(model(mixers), 32, 1920, batch)
    assert twice.executed == pytest.approx(2 * found.executed)


@pytest.mark.cpu
@pytest.mark.parametrize("batch", [1, 3])
def test_pytorch_counts_the_products_of_attention(batch: int) -> None:
    # A token's: projections, scores and values with all pairs, output, the MLP; the head.
    width, hidden, length = 8, 16, 32
    block = 2 * 4 * width * width + 2 * 2 * width * length + 2 * 2 * width * hidden
    expected = 3 * 960 * (2 * block + 2 * width * 12)
    assert training_flops(model("attention"), length, 960, batch).counted == expected


@pytest.mark.parametrize("mixers", ["hyena", "hyena,attention"])
def test_pytorch_sees_nothing_of_long_convolutions(mixers: str) -> None:
    assert training_flops(model(mixers), 32, 960).counted is None


def test_the_model_is_left_as_it_was() -> None:
    for training in (True, False):
        watched = model("attention").train(training)
        training_flops(watched, 16, 32)
        assert watched.training is training
        assert all(block.training is training for block in watched.blocks)
        assert all(p.grad is None for p in watched.parameters())


def test_a_length_that_the_model_refuses_is_an_error() -> None:
    with pytest.raises(ValueError, match="33"):
        training_flops(model("attention"), 33, 99)
