"""Hyena-ISO: residual blocks of convolutions as large as the image, from their parts."""

import re
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor
from torch.nn import functional as F

from hyena.ops import naive
from hyena.vision import HyenaISO


def small(**options: Any) -> HyenaISO:
    options = {"colours": 2, "width": 6, "layers": 2, **options}
    return HyenaISO((4, 5), 3, **options, dtype=torch.float64)


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, 4, 5, dtype=torch.float64)


def test_the_defaults_are_of_the_papers_size() -> None:
    model = HyenaISO(device="meta")
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 204_810  # 202k in the paper
    assert model(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("causal", [False, True])
def test_it_is_residual_blocks_of_convolutions(causal: bool) -> None:
    model, x = small(causal=causal).eval(), images()
    h = model.read_in(x.permute(0, 2, 3, 1))
    for block in model.blocks:
        u = F.layer_norm(h, (6,), block.norm.weight, block.norm.bias).permute(0, 3, 1, 2)
        y = naive.long_conv2d(u, block.filter(), block.filter.skip, causal=causal)
        z = block.out_linear(F.gelu(y.permute(0, 2, 3, 1)))
        h = h + z[..., :6] * z[..., 6:].sigmoid()
    h = F.layer_norm(h, (6,), model.norm.weight, model.norm.bias)
    assert_close(model(x), model.head(h.mean((1, 2))), 1e-13)


def test_every_pixel_reaches_every_block_output_unless_causal() -> None:
    for causal in (False, True):
        block = small(causal=causal).blocks[0].eval()
        x = torch.randn(1, 4, 5, 6, dtype=torch.float64)
        y = x.clone()
        y[:, 2, 3] += torch.randn(6, dtype=torch.float64)
        change = (block(x) - block(y)).abs().amax((0, 3))
        seen = torch.zeros(4, 5, dtype=torch.bool)
        seen[2:, 3:] = True
        assert (change[seen] > 1e-8).all()
        assert (change[~seen] < 1e-12).all() if causal else (change[~seen] > 1e-10).all()


def test_dropout_is_of_training_alone() -> None:
    model, x = small(dropout=0.5), images()
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


def test_every_parameter_is_trained() -> None:
    model = small()
    F.cross_entropy(model(images()), torch.tensor([0, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_initial_weights_come_from_the_generator() -> None:
    first, again, other = (
        small(generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert not torch.equal(first["blocks.0.filter.skip"], other["blocks.0.filter.skip"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: small()(torch.zeros(2, 1, 4, 5)),
            "expected images (B, 2, 4, 5), got (2, 1, 4, 5)",
        ),
        (
            lambda: small()(torch.zeros(2, 2, 4, 5)),
            "images are torch.float32 but the weights are torch.float64; convert one of them with "
            ".to(...)",
        ),
        (lambda: small(width=0), "expected a whole number from 1 to 1048576 as width, got 0"),
        (lambda: small(dropout=1.0), "expected 0 ≤ dropout < 1, got 1.0"),
        (lambda: HyenaISO(28), "expected size = (height, width) in pixels, got 28"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'HyenaISO: {message}')}$"):
        call()
