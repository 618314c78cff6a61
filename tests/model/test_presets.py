"""The paper's models have the paper's sizes."""

import pytest

from hyena.model import PRESETS, LanguageModel, preset


@pytest.mark.parametrize(
    ("name", "order", "expected"),
    [
        ("125M", 2, 125_306_112),
        ("125M", 3, 133_029_120),
        ("125M-slim", 2, 126_162_048),
        ("125M-slim", 3, 137_746_560),
        ("153M", 2, 153_700_416),
        ("355M", 2, 359_519_488),
        ("1.3B", 2, 1_320_205_568),
    ],
)
def test_parameters_are_counted_to_the_digit(name: str, order: int, expected: int) -> None:
    model = LanguageModel(preset(name, order=order), device="meta")
    assert model.parameter_count() == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_of_a_preset_is_trained(name: str) -> None:
    model = LanguageModel(preset(name), device="meta")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_preset_is_a_copy() -> None:
    changed = preset("125M")
    changed.width = changed.filter.width = 1
    assert (preset("125M").width, preset("125M").filter.width) == (768, 64)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match=r"^preset '124M' is unknown; expected one of 125M, 125M-slim, 153M, 355M, 1\.3B$",
    ):
        preset("124M")


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="'wdith'"):
        preset("125M", wdith=3)
