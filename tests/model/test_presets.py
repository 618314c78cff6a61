"""Published models have the published sizes."""

from dataclasses import fields, is_dataclass

import pytest

from hyena.model import PRESETS, LanguageModel, preset


def parameters(name: str, **changes: object) -> int:
    return LanguageModel(preset(name, **changes), device="meta").parameter_count()


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
def test_parameters_of_the_paper_are_counted_to_the_digit(
    name: str, order: int, expected: int
) -> None:
    assert parameters(name, order=order) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # of the first and the fifth the authors' code counts as many
        ("hyenadna-tiny-1k", 436_096),
        ("hyenadna-tiny-1k-d256", 1_641_088),
        ("hyenadna-tiny-16k-d128", 436_096),
        ("hyenadna-small-32k", 3_277_568),
        ("hyenadna-medium-160k", 6_550_528),
        ("hyenadna-medium-450k", 6_550_528),
        ("hyenadna-large-1m", 6_550_528),
    ],
)
def test_parameters_of_hyenadna_are_counted_to_the_digit(name: str, expected: int) -> None:
    assert parameters(name) == expected
    assert preset(name).padded_vocab == 16


def test_the_encoding_of_a_hyenadna_of_the_port_is_a_parameter_too() -> None:
    base = preset("hyenadna-tiny-1k")
    base.filter.train_encoding = True
    model = LanguageModel(base, device="meta")
    assert model.parameter_count() == 436_096 + 2 * 1026 * 5


@pytest.mark.parametrize("name", PRESETS)
def test_every_parameter_of_a_preset_is_trained(name: str) -> None:
    model = LanguageModel(preset(name), device="meta")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_preset_is_a_copy() -> None:
    changed = preset("125M")
    changed.width = changed.filter.width = 1
    assert (preset("125M").width, preset("125M").filter.width) == (768, 64)
    for field in fields(changed):
        if is_dataclass(part := getattr(changed, field.name)):
            assert part is not getattr(PRESETS["125M"], field.name)


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"^preset '124M' is unknown; expected one of 125M, 125M-slim, 153M, 355M, 1\.3B, "
            r"hyenadna-tiny-1k, .*, hyenadna-large-1m, stripedhyena-7b, .*evo2-40b$"
        ),
    ):
        preset("124M")


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="'wdith'"):
        preset("125M", wdith=3)
