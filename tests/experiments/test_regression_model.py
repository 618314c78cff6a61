"""The model of real-valued sequences."""

import pytest
import torch

from hyena.experiments import RegressionModel
from hyena.model import ModelConfig

SMALL = {"width": 8, "layers": 2, "mlp_width": 8, "max_length": 16, "vocab_size": 1}


def model(**changes: object) -> RegressionModel:
    config = ModelConfig(**{**SMALL, **changes})  # type: ignore[arg-type]
    return RegressionModel(config, 3, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("mixers", ["hyena", "attention"])
@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_a_prediction_depends_on_nothing_later(mixers: str, positions: str) -> None:
    one = model(mixers=mixers, positions=positions).eval()
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 11, 3, generator=draw, dtype=torch.float64)
    y = one(x)
    assert y.shape == (2, 11)
    changed = x.clone()
    changed[:, 6] += 1
    moved = (one(changed) - y).abs().amax(dim=0)
    assert moved[:6].max() < 1e-12
    assert moved[6:].min() > 1e-6


def test_learned_positions_are_a_table() -> None:
    one = model(positions="learned", mixers="attention")
    assert one.positions is not None
    assert one.positions.weight.shape == (16, 8)
    assert model().positions is None


def test_the_generator_decides_the_weights() -> None:
    one, other = model().state_dict(), model().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected inputs \(B, T, 3\), got \(2, 5, 4\)"):
        model()(torch.zeros(2, 5, 4, dtype=torch.float64))
    with pytest.raises(ValueError, match="the input has 17 positions but max_length is 16"):
        model()(torch.zeros(2, 17, 3, dtype=torch.float64))
    longer = model(length_policy="extrapolate")(torch.zeros(2, 17, 3, dtype=torch.float64))
    assert longer.shape == (2, 17)


def test_it_has_the_norms_and_mlps_of_the_configuration() -> None:
    one = model(norm="rms", mlp="gated", activation="silu,identity")
    names = list(one.state_dict())
    assert "norm.weight" in names
    assert "norm.bias" not in names
    assert "blocks.1.mlp.gate.weight" in names
    assert [block.mlp.activation for block in one.blocks] == ["silu", "identity"]
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert bool(one(x).isfinite().all())
