"""Initial weights: as their table says, and a function of the generator alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from hyena.model import FilterConfig, LanguageModel, ModelConfig

LAYERS = 4


def build(seed: int | None = 0, **changes: Any) -> LanguageModel:
    values: dict[str, Any] = {
        "vocab_size": 500,
        "width": 64,
        "layers": LAYERS,
        "mixers": "hyena,attention",
        "max_length": 32,
        "order": 3,
        "short_width": 4,
        "filter": FilterConfig(
            sine_freq=5.0, train_encoding=True, train_decay=True, fast_decay=0.2, slow_decay=2.0
        ),
    }
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return LanguageModel(ModelConfig(**{**values, **changes}), generator=generator)


def is_normal(x: Tensor, std: float) -> bool:
    """Mean, deviation and tails, each within about four standard errors."""
    n, x = x.numel(), x / std
    mean, deviation = abs(x.mean().item()), abs(x.std().item() - 1)
    beyond = abs((x.abs() > 1).double().mean().item() - 0.3173)
    return max(mean, math.sqrt(2) * deviation, beyond / 0.4655) < 4 / math.sqrt(n)


def is_uniform(x: Tensor, bound: float) -> bool:
    n, x = x.numel(), x / bound
    inside = x.abs().max().item() <= 1
    halves = abs((x.abs() > 0.5).double().mean().item() - 0.5)
    return inside and abs(x.mean().item()) < 4 * 0.58 / n**0.5 and halves < 4 * 0.5 / n**0.5


def test_every_parameter_is_as_the_table_says() -> None:
    model = build()
    small = 0.02 / math.sqrt(2 * LAYERS)
    decay = torch.linspace(math.log(100) / 2.0, math.log(100) / 0.2, 128)
    checked = 0
    for name, parameter in model.named_parameters():
        x = parameter.detach()
        layer, _, kind = name.rpartition(".")
        if name == "embedding.weight":
            assert is_normal(x, 0.02), name
        elif name.endswith(".sine_freq"):
            assert bool((x == 5.0).all()), name
        elif name.endswith(".decay"):
            torch.testing.assert_close(x.flatten().sort().values, decay)
        elif name.endswith(".encoding"):
            torch.testing.assert_close(x[:, 0], torch.linspace(0, 1, 32))
        elif name.endswith(".skip"):
            assert is_normal(x, 1.0), name
        elif "short_conv" in name:
            assert is_uniform(x, 0.5), name
        elif layer.split(".")[-1] in ("norm", "norm1", "norm2"):
            assert bool((x == (1 if kind == "weight" else 0)).all()), name
        elif kind == "bias":
            assert not x.any(), name
        else:
            last = layer.endswith((".out_proj", ".mlp.down"))
            assert last or ".in_proj" in name or ".mlp.up" in name or ".filter.layers." in name
            assert is_normal(x, small if last else 0.02), name
        checked += 1
    assert checked == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("values", "std"),
    [(torch.zeros(400), 1.0), (torch.linspace(-1.7, 1.7, 400), 1.0), (torch.ones(400), 1.0)],
)
def test_what_is_not_normal_is_seen(values: Tensor, std: float) -> None:
    assert not is_normal(values, std)
    draw = torch.randn(400, generator=torch.Generator().manual_seed(0))
    assert is_normal(draw, 1.0)
    assert not is_normal(1.2 * draw, 1.0)
    assert not is_uniform(draw, 1.0)


def test_weights_are_a_function_of_the_generator_alone() -> None:
    torch.manual_seed(1)
    first = build(0)
    torch.manual_seed(2)
    second, other = build(0), build(1)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name
    drawn = [
        name
        for (name, a), b in zip(first.named_parameters(), other.parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert {name.rpartition(".")[2] for name in drawn} == {"weight", "bias", "skip"}
    assert all("short_conv" in name for name in drawn if name.endswith(".bias"))


def test_without_a_generator_pytorchs_own_is_used() -> None:
    torch.manual_seed(1)
    first = build(None)
    second = build(None)
    torch.manual_seed(1)
    third = build(None)
    assert torch.equal(first.embedding.weight, third.embedding.weight)
    assert not torch.equal(first.embedding.weight, second.embedding.weight)


def test_fewer_bits_round_the_same_values() -> None:
    wide = build(0, mixers="hyena", layers=1)
    generator = torch.Generator().manual_seed(0)
    half = LanguageModel(wide.config, generator=generator, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert is_normal(half.embedding.weight.detach().float(), 0.02)


@pytest.mark.parametrize("initial", ["normal", "pytorch"])
def test_gated_mlps_norms_without_bias_and_a_head_of_its_own(initial: str) -> None:
    model = build(tied=False, norm="rms", mlp="gated", initial=initial)
    small = 0.02 / math.sqrt(2 * LAYERS)
    checked = 0
    for name, parameter in model.named_parameters():
        x, kind = parameter.detach(), name.rpartition(".")[0]
        if kind == "head" or ".mlp." in name:
            std = small if kind.endswith(".down") else 0.02
            of_pytorch = initial == "pytorch"
            assert is_uniform(x, x.shape[1] ** -0.5) if of_pytorch else is_normal(x, std), name
            checked += 1
        elif kind.split(".")[-1] in ("norm", "norm1", "norm2"):
            assert name.endswith(".weight")
            assert bool((x == 1).all()), name
            checked += 1
    assert checked == 1 + 3 * LAYERS + 2 * LAYERS + 1


def test_a_head_of_its_own_is_drawn_after_all_else() -> None:
    tied, untied = build(0), build(0, tied=False)
    assert untied.head is not None
    for name, parameter in tied.named_parameters():
        assert torch.equal(parameter, untied.get_parameter(name)), name
    assert not torch.equal(untied.head.weight, untied.embedding.weight)
