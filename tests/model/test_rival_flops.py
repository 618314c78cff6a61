"""Operations of the mixers and filters besides Hyena's own: by instruments and by hand."""

from dataclasses import replace
from math import log2
from typing import Any, get_args

import pytest
import torch
from small_models import small_config
from torch.utils.flop_counter import FlopCounterMode
from transforms import Transforms

from hyena.mixers import SPECS, HyenaOperator
from hyena.model import FilterConfig, LanguageModel, LayerFlops, ModelConfig
from hyena.model.build import build_filter
from hyena.model.config import FilterKind, SSMConfig
from hyena.model.flops import executed_flops, flops, paper_flops
from hyena.ops.native import library

OTHERS = [name for name, spec in SPECS.items() if spec.type is not HyenaOperator]
RIVALS = [name for name in OTHERS if name != "attention"]
KINDS = [kind for kind in get_args(FilterKind) if kind != "hyena"]
SHAPES = [(1, 24), (3, 17), (2, 1)]
each_shape = pytest.mark.parametrize(("batch", "length"), SHAPES)


def config(mixers: str = "hyena", kind: Any = "hyena", **changes: Any) -> ModelConfig:
    filter = FilterConfig(kind=kind, taps=7, modes=5, degree=4)
    values = {"filter": filter, "ssm": SSMConfig(state=6), "local_width": 5, **changes}
    return small_config(mixers, **values)


def run(config: ModelConfig, batch: int, length: int) -> tuple[int, float]:
    """Operations in matrix products and in FFTs, by instruments."""
    model, ids = LanguageModel(config), torch.zeros(batch, length, dtype=torch.int64)
    with library.use("none"):  # the count is of PyTorch's transforms
        with FlopCounterMode(display=False) as counter:
            model(ids)
        with Transforms() as transforms:  # by itself: the counter's hooks hide that filters end
            model(ids)
    return counter.get_total_flops(), transforms.operations


@each_shape
@pytest.mark.parametrize("mixer", RIVALS)
def test_products_and_transforms_of_each_mixer(mixer: str, batch: int, length: int) -> None:
    products, transforms = run(config(mixer), batch, length)
    count = executed_flops(config(mixer), length, batch)
    expected_products, expected_transforms = count.head, 0.0
    for layer in count.layers:
        expected_products += (
            layer["projections"] + layer["products"] + layer["output"] + layer["mlp"]
        )
        expected_transforms += layer["transforms"]
        assert layer["pointwise"] > 0
    assert products == expected_products
    assert transforms == pytest.approx(expected_transforms, rel=1e-12)
    assert (transforms > 0) == (mixer in ("s4d", "h3", "gss"))


@each_shape
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_products_and_transforms_of_each_filter(
    kind: str, order: int, batch: int, length: int
) -> None:
    changed = config("hyena", kind, order=order)
    products, transforms = run(changed, batch, length)
    count, filters = (
        executed_flops(changed, length, batch),
        build_filter(changed, device="meta").flops(length),
    )
    expected_products, expected_transforms = count.head, 0.0
    for layer in count.layers:
        expected_products += (
            layer["projections"] + layer["output"] + layer["mlp"] + layer["filter_network"]
        )
        expected_transforms += layer["filter_fft"] * (2 * batch + 1) + filters.transforms
        assert layer["filter_network"] == filters.products
        assert layer["filter_values"] == filters.transforms + filters.pointwise
    assert products == expected_products
    assert transforms == pytest.approx(expected_transforms, rel=1e-12)
    assert (filters.products > 0) == (kind in ("s4d", "modal"))
    assert (filters.transforms > 0) == (kind in ("fourier", "transfer-function"))


TINY = ModelConfig(
    vocab_size=10,
    width=4,
    layers=1,
    mlp_width=6,
    head_dim=2,
    max_length=8,
    local_width=3,
    ssm=SSMConfig(state=2),
)


def rival(*operations: float) -> LayerFlops:
    names = ("projections", "products", "transforms", "pointwise", "output", "mlp")
    return LayerFlops(dict(zip(names, operations, strict=True)))


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        # D = 4, L = 8, B = 1, MLP 6, two heads of 2, one pole, 3 taps
        (
            "linear-attention",  # one chunk of 16 for each head
            rival(768, 2 * 2 * (512 + 768 + 2 * 16 * 6), 0, 304 + 2 * (24 + 48), 256, 768),
        ),
        ("rwkv", rival(768, 0, 0, 8 * 4 * (7 + 34 + 4), 256, 768)),
        ("aft-conv", rival(768, 0, 0, 8 * 4 * (22 + 18 + 4) + 4 * 3 * 9, 256, 768)),
        # blocks of 3 positions, three of them; FFTs of 16: 160
        ("s4d", rival(0, 144, 1920, 4 * (42 + 18 + 8) + 216 + 8 * 4 * 8, 512, 768)),
        # a shift of 2 taps needs an FFT of 9 or more: 10
        (
            "h3",
            rival(
                768,
                144,
                1920 + 4 * 3 * 25 * log2(10),
                272 + 216 + 4 * 6 * 6 + 8 + 64,
                256,
                768,
            ),
        ),
        ("gss", rival(8 * 2 * 68, 36, 480, 68 + 54 + 8 * (12 + 80), 8 * 2 * 80, 768)),
    ],
)
def test_by_hand(mixer: str, expected: LayerFlops) -> None:
    [layer] = executed_flops(replace(TINY, mixers=mixer), 8).layers
    assert layer.parts == pytest.approx(expected.parts, rel=1e-12)
    assert layer.total == layer.causal == pytest.approx(expected.total, rel=1e-12)
    # The paper has no formula of its own for them.
    assert paper_flops(replace(TINY, mixers=mixer), 8).layers == (layer,)


@pytest.mark.parametrize(
    ("kind", "network", "values"),
    [
        ("explicit", 0, 32),  # a skip for each of 4 · 8 taps
        ("fourier", 0, 4 * 60 + 32),  # FFTs of 8 numbers
        ("s4d", 144, 4 * (42 + 18) + 32),
        # order 2: a(z) 10; 1/a(z) at 32 points, 17 of them computed; FFTs of 10 of the numerator
        (
            "transfer-function",
            0,
            4 * (2 * 2.5 * 32 * 5 + 7.5 * 10 * log2(10) + 10 + 3 + 8 + 6 * 17 + 36) + 32,
        ),
    ],
)
def test_filters_by_hand(kind: Any, network: float, values: float) -> None:
    filter = FilterConfig(kind=kind, taps=3, modes=3, degree=2)
    [layer] = executed_flops(replace(TINY, filter=filter), 8).layers
    assert layer["filter_network"] == network
    assert layer["filter_values"] == pytest.approx(values, rel=1e-12)


def test_rotary_positions_are_counted_where_they_are() -> None:
    attention = replace(TINY, mixers="attention")
    rotary, learned = (
        executed_flops(replace(attention, positions=positions), 8).total
        for positions in ("rotary", "learned")
    )
    assert rotary - learned == 3 * 2 * 4 * 8


@pytest.mark.parametrize("mixer", RIVALS)
def test_twice_the_rows_cost_twice_as_much_or_less_by_the_filter(mixer: str) -> None:
    one, two, three = (executed_flops(config(mixer), 24, batch).layers[0] for batch in (1, 2, 3))
    assert two.total <= 2 * one.total
    assert three.total - two.total == pytest.approx(two.total - one.total, rel=1e-12)


@pytest.mark.parametrize("mixer", RIVALS)
def test_a_model_of_all_sorts_counts_itself(mixer: str) -> None:
    changed = config(f"{mixer},hyena,attention")
    model = LanguageModel(changed, device="meta")
    assert model.flops(8, 3) == flops(changed, 8, 3)
