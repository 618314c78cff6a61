"""StripedHyena 7B, Evo 1 and Evo 2 have the sizes of the tensors of their released files."""

from collections import Counter
from math import prod

import pytest

from hyena.model import LanguageModel, ModelConfig, preset

Shapes = dict[str, tuple[int, ...]]
NAMES = [
    "stripedhyena-7b",
    "evo-1-8k-base",
    "evo-1-131k-base",
    "evo2-1b",
    "evo2-7b-base",
    "evo2-7b-262k",
    "evo2-7b",
    "evo2-20b",
    "evo2-40b-base",
    "evo2-40b",
]


def of_hyena(D: int, biases: bool, inner: Shapes) -> Shapes:
    """What every Hyena block of the public code holds, and what only its filter has."""
    found: Shapes = {
        "projections.weight": (3 * D, D),
        "filter.short_filter_weight": (3 * D, 1, 3),
        "out_filter_dense.weight": (D, D),
        "out_filter_dense.bias": (D,),
        **inner,
    }
    if biases:
        found |= {"projections.bias": (3 * D,), "filter.short_filter_bias": (3 * D,)}
    return found


def of_attention(D: int, keys: int, biases: tuple[bool, bool]) -> Shapes:
    """Keys: numbers of all heads of keys; biases of queries, keys and values, and of the output."""
    found: Shapes = {
        "inner_mha_cls.Wqkv.weight": (D + 2 * keys, D),
        "inner_mha_cls.out_proj.weight": (D, D),
    }
    if biases[0]:
        found["inner_mha_cls.Wqkv.bias"] = (D + 2 * keys,)
    if biases[1]:
        found["inner_mha_cls.out_proj.bias"] = (D,)
    return found


def modal(D: int, modes: int) -> Shapes:
    return {
        "filter.D": (D,),
        "filter.poles": (D, modes, 1, 2),
        "filter.residues": (D, modes, 1, 2),
    }


def of_evo2(D: int, groups: int) -> dict[str, Shapes]:
    """Each kind of block by its letter."""
    inner: dict[str, Shapes] = {
        "S": {"filter.h": (groups, 1, 7)},
        "D": {"filter.h": (groups, 1, 128), "filter.D": (D,)},
        "H": {"filter.log_poles": (D, 16, 1), "filter.residues": (D, 16), "filter.D": (D,)},
    }
    hyena = {letter: of_hyena(D, False, filter) for letter, filter in inner.items()}
    return {**hyena, "*": of_attention(D, D, (False, True))}


def released(
    blocks: str, D: int, hidden: int, kinds: dict[str, Shapes], *, vocabulary: int, tied: bool
) -> Shapes:
    """All tensors of a file with these blocks, a letter each."""
    found: Shapes = {"embedding_layer.weight": (vocabulary, D), "norm.scale": (D,)}
    if not tied:
        found["unembed.weight"] = (vocabulary, D)
    for i, letter in enumerate(blocks):
        block = {
            **kinds[letter],
            "pre_norm.scale": (D,),
            "post_norm.scale": (D,),
            "mlp.l1.weight": (hidden, D),
            "mlp.l2.weight": (hidden, D),
            "mlp.l3.weight": (D, hidden),
        }
        found |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return found


LAYOUTS = {  # of Evo 2, by the public configurations
    1: "SDH*SDHSDH*SDHSDH*SDHSDH*",
    7: "SDH*SDHSDH*SDHSDH*SDHSDH*SDHSDH*",
    20: "SDH*SDHSDH*SDHSDH*SDHSDH",
    40: "SDH*SDHSDH*SDHSDH*SDHSDH*SDHSDH*SDH*SDHSDH*SDHSDH*",
}


def files() -> dict[str, Shapes]:
    D = 4096
    evo1 = released(
        "HHHHHHHH*HHHHHHH*HHHHHHH*HHHHHHH",
        D,
        10_928,
        {"H": of_hyena(D, True, modal(D, 8)), "*": of_attention(D, D, (True, True))},
        vocabulary=512,
        tied=True,
    )
    striped = released(
        "H*" * 16,
        D,
        14_336,
        {"H": of_hyena(D, True, modal(D, 2)), "*": of_attention(D, 8 * 128, (False, False))},
        vocabulary=32_000,
        tied=False,
    )
    evo2 = {
        name: released(LAYOUTS[billions], D, hidden, of_evo2(D, groups), vocabulary=512, tied=True)
        for name, billions, D, hidden, groups in (
            ("evo2-1b", 1, 1920, 5120, 128),
            ("evo2-7b-base", 7, 4096, 11_008, 256),
            ("evo2-7b-262k", 7, 4096, 11_008, 256),
            ("evo2-7b", 7, 4096, 11_264, 256),
            ("evo2-20b", 20, 8192, 22_528, 512),
            ("evo2-40b-base", 40, 8192, 21_888, 512),
            ("evo2-40b", 40, 8192, 22_528, 512),
        )
    }
    return {"stripedhyena-7b": striped, "evo-1-8k-base": evo1, "evo-1-131k-base": evo1, **evo2}


FILES = files()


def on_meta(config: ModelConfig) -> LanguageModel:
    return LanguageModel(config, device="meta")


def numbers(shapes: Shapes) -> int:
    return sum(map(prod, shapes.values()))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_file(name: str) -> None:
    """StripedHyena 7B has no biases in its attention layers: ours are zeros there."""
    without = 16 * (4096 + 2 * 8 * 128 + 4096) if name == "stripedhyena-7b" else 0
    model = on_meta(preset(name))
    assert model.parameter_count() == numbers(FILES[name]) + without
    assert all(parameter.is_meta and parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("name", "published", "tolerance"),
    [
        # lists of models name 7.65 billion, the others' own pages the round numbers
        ("stripedhyena-7b", 7.65e9, 0.001),
        ("evo-1-8k-base", 7e9, 0.08),
        ("evo-1-131k-base", 7e9, 0.08),
        ("evo2-1b", 1e9, 0.11),
        ("evo2-7b-base", 7e9, 0.08),
        ("evo2-7b-262k", 7e9, 0.08),
        ("evo2-7b", 7e9, 0.07),
        ("evo2-20b", 20e9, 0.02),
        ("evo2-40b-base", 40e9, 0.01),
        ("evo2-40b", 40e9, 0.03),
    ],
)
def test_they_are_as_large_as_is_said_of_them(
    name: str, published: float, tolerance: float
) -> None:
    assert numbers(FILES[name]) == pytest.approx(published, rel=tolerance)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stripedhyena-7b", 7_646_023_680),
        ("evo-1-8k-base", 6_452_781_056),
        ("evo2-1b", 1_107_989_760),
        ("evo2-7b-base", 6_481_059_584),
        ("evo2-7b-262k", 6_481_059_584),
        ("evo2-7b", 6_581_722_880),
        ("evo2-20b", 19_738_780_160),
        ("evo2-40b-base", 40_331_142_144),
        ("evo2-40b", 41_117_574_144),
    ],
)
def test_the_files_are_counted_by_hand(name: str, expected: int) -> None:
    assert numbers(FILES[name]) == expected


@pytest.mark.parametrize(
    ("name", "length", "scale", "base"),
    [
        ("evo2-1b", 8192, 1.0, 1e4),
        ("evo2-7b-base", 8192, 1.0, 1e4),
        ("evo2-7b-262k", 262_144, 32.0, 1e4),
        ("evo2-7b", 1_048_576, 128.0, 1e4),
        ("evo2-20b", 1_048_576, 128.0, 1e6),
        ("evo2-40b-base", 8192, 1.0, 1e6),
        ("evo2-40b", 1_048_576, 128.0, 1e6),
    ],
)
def test_positions_are_those_of_the_public_configurations(
    name: str, length: int, scale: float, base: float
) -> None:
    config = preset(name)
    assert (config.max_length, config.rotary_scale, config.rotary_base) == (length, scale, base)


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_of_128_channels(name: str) -> None:
    config = preset(name)
    assert config.head_dim == 128
    assert config.width == 128 * config.heads


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stripedhyena-7b", {"hyena": 16, "attention": 16}),
        ("evo-1-131k-base", {"hyena": 29, "attention": 3}),
        ("evo2-1b", {"hyena-se": 7, "hyena-mr": 7, "hyena-li": 7, "attention": 4}),
        ("evo2-7b", {"hyena-se": 9, "hyena-mr": 9, "hyena-li": 9, "attention": 5}),
        ("evo2-20b", {"hyena-se": 7, "hyena-mr": 7, "hyena-li": 7, "attention": 3}),
        ("evo2-40b", {"hyena-se": 14, "hyena-mr": 14, "hyena-li": 14, "attention": 8}),
    ],
)
def test_layers(name: str, expected: dict[str, int]) -> None:
    assert Counter(preset(name).layer_mixers()) == expected


def test_attention_stands_where_the_public_configurations_have_it() -> None:
    for name, expected in (
        ("evo-1-8k-base", [8, 16, 24]),
        ("evo2-40b", [3, 10, 17, 24, 31, 35, 42, 49]),
    ):
        mixers = preset(name).layer_mixers()
        assert [i for i, mixer in enumerate(mixers) if mixer == "attention"] == expected


def test_only_the_first_layer_of_evo_2_has_an_activation() -> None:
    assert preset("evo2-7b").layer_activations()[:3] == ["gelu", "identity", "identity"]


@pytest.mark.parametrize("name", ["evo-1-131k-base", "evo2-7b"])
def test_the_state_grows_by_the_attention_layers_alone(name: str) -> None:
    model = on_meta(preset(name))
    layers = model.config.layer_mixers().count("attention")
    assert model.state_size(2000) - model.state_size(1000) == 1000 * layers * 2 * 4096
