"""Hyena-ViT: the paper's architecture, from its parts."""

import re
from typing import Any

import pytest
import torch
from comparison import assert_close
from torch import Tensor
from torch.nn import functional as F

from hyena.vision import HyenaViT
from hyena.vision.vit import patches_of

SMALL = {"colours": 2, "patch": 3, "width": 8, "layers": 2, "hidden": 12}


def small(**options: Any) -> HyenaViT:
    return HyenaViT((6, 9), 5, **{**SMALL, **options}, dtype=torch.float64)


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 2, 6, 9, dtype=torch.float64)


def moved(model: HyenaViT, patch: int) -> Tensor:
    """(L,) how far the blocks' outputs move if a pixel in a patch is another."""
    x = patches_of(images(1), 3)
    y = x.clone()
    y[:, patch, 4] += 1.0
    outputs = []
    for given in (x, y):
        h = model.patch_embedding(given)
        for block in model.blocks:
            h = block(h)
        outputs.append(h)
    return (outputs[0] - outputs[1]).abs().amax((0, 2))


def test_the_defaults_are_of_the_papers_size() -> None:
    model = HyenaViT(device="meta")
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 87_251_944  # 88M in the paper, whose encodings are trained as well
    assert model(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 1000)


def test_patches_are_rows_of_pixels_in_order() -> None:
    x = images()
    expected = torch.stack(
        [x[:, :, i : i + 3, j : j + 3].flatten(1) for i in (0, 3) for j in (0, 3, 6)], dim=1
    )
    assert torch.equal(patches_of(x, 3), expected)
    pixels = patches_of(x, 1)
    assert torch.equal(pixels, x.permute(0, 2, 3, 1).flatten(1, 2))


def test_it_is_blocks_over_patches_and_the_mean_of_all() -> None:
    model, x = small(), images()
    h = F.linear(patches_of(x, 3), model.patch_embedding.weight, model.patch_embedding.bias)
    for block in model.blocks:
        h = h + block.mixer(F.layer_norm(h, (8,), block.norm1.weight, block.norm1.bias))
        u = F.layer_norm(h, (8,), block.norm2.weight, block.norm2.bias)
        h = h + block.mlp.down(F.gelu(block.mlp.up(u), approximate="tanh"))
    h = F.layer_norm(h, (8,), model.norm.weight, model.norm.bias)
    assert_close(model(x), model.head(h.mean(1)), 1e-14)


def test_it_has_neither_class_token_nor_positions() -> None:
    kinds = {name.split(".")[0] for name, _ in small().named_parameters()}
    assert kinds == {"patch_embedding", "blocks", "norm", "head"}


def test_it_is_causal_as_in_the_paper_or_sees_all() -> None:
    change = moved(small(), 3)
    assert change[:3].amax() < 1e-12
    assert change[3:].amin() > 1e-8
    assert moved(small(causal=False), 3).amin() > 1e-8


@pytest.mark.parametrize("options", [{}, {"causal": False}, {"order": 3}, {"patch": 1}], ids=str)
def test_every_parameter_is_trained(options: dict[str, Any]) -> None:
    model = small(**options)
    F.cross_entropy(model(images()), torch.tensor([0, 4, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()), name


def test_initial_weights_come_from_the_generator() -> None:
    first, again, other = (
        small(generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(x, again[name]) for name, x in first.items())
    assert not torch.equal(first["head.weight"], other["head.weight"])
    assert 0.01 < first["patch_embedding.weight"].std() < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"patch": 4},
            "expected a patch that divides both sides of the image, got patch=4 and size=(6, 9)",
        ),
        ({"layers": 0}, "expected a whole number from 1 to 1048576 as layers, got 0"),
        ({"width": 0}, "expected a whole number from 1 to 1048576 as width, got 0"),
        ({"width": 8.0}, "expected a whole number from 1 to 1048576 as width, got 8.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'HyenaViT: {message}')}$"):
        small(**options)


def test_an_order_below_two_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^HyenaViT: order: expected at least 2, got 1$"):
        small(order=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.zeros(3, 6, 9), "expected images (B, 2, 6, 9), got (3, 6, 9)"),
        (torch.zeros(3, 2, 9, 6), "expected images (B, 2, 6, 9), got (3, 2, 9, 6)"),
        (
            torch.zeros(3, 2, 6, 9, dtype=torch.uint8),
            "expected images of floating point, got torch.uint8; images.float() / 255 makes them "
            "of bytes",
        ),
        (
            torch.zeros(3, 2, 6, 9, dtype=torch.float32),
            "images are torch.float32 but the weights are torch.float64; convert one of them with "
            ".to(...)",
        ),
    ],
)
def test_what_are_no_images_of_this_size_is_refused(given: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'HyenaViT: {message}')}$"):
        small()(given)


def test_autocast_converts_images() -> None:
    model = HyenaViT((6, 9), 5, **SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(images().float()).isfinite().all()
        with pytest.raises(ValueError, match=r"images are torch\.float64 but the weights"):
            model(images())  # which autocast leaves as they are
