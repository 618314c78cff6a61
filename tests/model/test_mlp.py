"""MLPs, plain and gated, are their formula with the activation of their layer."""

import math
from typing import Any, get_args

import pytest
import torch
from comparison import assert_close, with_module_gradients
from small_models import small_config, small_model, tokens
from torch import Tensor, nn

from hyena.model import LanguageModel, ModelConfig
from hyena.model.mlp import MLP, Activation, GatedMLP, activated, is_by_position, matrices_of
from hyena.ops.native import library

ACTIVATIONS = get_args(Activation)
KINDS = [MLP, GatedMLP]


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2)).double()


def number(name: str, x: float) -> float:
    """The activation of a number."""
    if name == "gelu":  # x times the probability that a normal number is below it
        return x * 0.5 * math.erfc(-x / math.sqrt(2))
    if name == "gelu-tanh":
        return x * 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / (1 + math.exp(-x)) if name == "silu" else x


def definition(mlp: Any, name: str, u: Tensor) -> Tensor:
    """Layer by layer, as sums."""

    def linear(layer: nn.Linear, x: Tensor) -> Tensor:
        y = (layer.weight[None] * x.reshape(-1, 1, x.shape[-1])).sum(2)
        return (y if layer.bias is None else y + layer.bias).view(*x.shape[:-1], -1)

    hidden = linear(mlp.gate if isinstance(mlp, GatedMLP) else mlp.up, u)
    if name == "gelu":
        hidden = hidden * torch.special.ndtr(hidden)
    elif name == "gelu-tanh":
        inner = math.sqrt(2 / math.pi) * (hidden + 0.044715 * hidden**3)
        hidden = hidden * (1 + inner.tanh()) / 2
    elif name == "silu":
        hidden = hidden * hidden.sigmoid()
    if isinstance(mlp, GatedMLP):
        hidden = hidden * linear(mlp.up, u)
    return linear(mlp.down, hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_in_place_it_is_the_same_and_only_where_nobody_looks_on(
    name: Activation, dtype: torch.dtype
) -> None:
    x = some(3, 5).to(dtype)
    expected = activated(name, x)
    with torch.no_grad():
        y = activated(name, given := x.clone(), own=True)
    assert torch.equal(y, expected)
    assert y.data_ptr() == given.data_ptr()
    if name != "identity":
        watched = x.clone().requires_grad_()
        assert torch.equal(activated(name, watched * 1, own=True), expected)
        y.requires_grad_()
        assert activated(name, y, own=True).data_ptr() != y.data_ptr()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_a_hook_keeps_of_the_hidden_values_stays(kind: Any) -> None:
    mlp, u, kept = kind(6, 10, "silu").double(), some(2, 3, 6), []
    expected = mlp(u)
    for layer in mlp.children():
        layer.register_forward_hook(lambda module, given, y: kept.append((module, *given, y)))
    assert torch.equal(mlp(u), expected)
    assert len(kept) == len(list(mlp.children()))
    for layer, x, y in kept:
        assert torch.equal(nn.functional.linear(x, layer.weight, layer.bias), y)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_number_by_number(name: Activation) -> None:
    x = torch.linspace(-6, 6, 49, dtype=torch.float64)
    expected = torch.tensor([number(name, float(t)) for t in x], dtype=torch.float64)
    assert_close(activated(name, x), expected, 1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(2, 5, 6), (3, 6)])
def test_output_and_gradients_are_the_definition(
    kind: Any, name: Activation, shape: tuple[int, ...]
) -> None:
    mlp = kind(6, 10, name, dtype=torch.float64)
    got = with_module_gradients(mlp, mlp, some(*shape))
    expected = with_module_gradients(mlp, lambda u: definition(mlp, name, u), some(*shape))
    assert len(got) == 2 + len(list(mlp.parameters()))
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, 1e-13)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_token_of_each_row(kind: Any, name: Activation, native: bool) -> None:
    mlp, u = kind(6, 10, name), some(3, 6).float()
    with library.use(library.isa() if native else "none"):
        got = mlp(u)
    assert_close(got.double(), definition(mlp.double(), name, u.double()), 1e-6)


def test_parameters_of_each_kind() -> None:
    names = {kind: {n: tuple(p.shape) for n, p in kind(6, 10).named_parameters()} for kind in KINDS}
    assert names[MLP] == {
        "up.weight": (10, 6),
        "up.bias": (10,),
        "down.weight": (6, 10),
        "down.bias": (6,),
    }
    assert names[GatedMLP] == {
        "gate.weight": (10, 6),
        "up.weight": (10, 6),
        "down.weight": (6, 10),
    }


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("silu", ["silu"] * 4),
        ("gelu,identity", ["gelu", "identity", "identity", "identity"]),
        (" gelu , silu,identity,gelu-tanh,silu", ["gelu", "silu", "identity", "gelu-tanh"]),
    ],
)
@pytest.mark.parametrize("mlp", ["plain", "gated"])
def test_a_list_of_activations_is_of_the_first_layers(
    activation: str, expected: list[str], mlp: Any
) -> None:
    config = ModelConfig(width=12, layers=4, activation=activation, mlp=mlp)
    assert config.layer_activations() == expected
    model = LanguageModel(config, device="meta")
    assert [block.mlp.activation for block in model.blocks] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_more_than_its_formula_is_seen(kind: Any) -> None:
    mlp = kind(6, 10)
    assert is_by_position(mlp)
    mlp.down.register_forward_hook(lambda *call: None)
    assert not is_by_position(mlp)
    assert not is_by_position(None)
    mlp = kind(6, 10)
    mlp.up = nn.Sequential(mlp.up)
    assert not is_by_position(mlp)
    mlp = kind(6, 10)
    mlp.register_forward_hook(lambda *call: None)
    assert not is_by_position(mlp)


def test_the_kernel_is_given_plain_tanh_gelu_alone() -> None:
    assert matrices_of(MLP(6, 10)) is not None
    assert matrices_of(MLP(6, 10, "gelu")) is None
    assert matrices_of(GatedMLP(6, 10)) is None


@torch.no_grad()
def test_without_an_activation_a_plain_mlp_is_linear() -> None:
    mlp, u = MLP(6, 10, "identity", dtype=torch.float64), some(2, 6)
    zero = mlp(torch.zeros(2, 6, dtype=torch.float64))
    assert_close(mlp(3 * u) - zero, 3 * (mlp(u) - zero), 1e-13)


@pytest.mark.parametrize("mlp", ["plain", "gated"])
def test_an_adapter_inside_counts(mlp: Any) -> None:
    model, ids = small_model(mlp=mlp), tokens(2, 9)
    before = model(ids)
    block: Any = model.blocks[1]
    block.mlp.up = nn.Sequential(block.mlp.up, nn.Tanh())
    after = model(ids)
    assert not torch.equal(before, after)
    with torch.no_grad():
        _, state = model.prefill(ids[:, :8])
        assert_close(model.step(ids[:, 8], state)[0], after[:, 8].detach(), 1e-10)


def test_one_width_for_all_matrices() -> None:
    model = LanguageModel(small_config(mlp="gated", mlp_width=None), device="meta")
    assert [tuple(p.shape) for p in model.blocks[0].mlp.parameters()] == [  # type: ignore[union-attr]
        (48, 12),
        (48, 12),
        (12, 48),
    ]
