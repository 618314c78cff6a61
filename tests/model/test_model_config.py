"""What a configuration means and which ones are refused."""

from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import hyena
from hyena.mixers import SPECS
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.config import SSMConfig, StripedConfig

KNOWN = (
    "attention, hyena, aft-conv, gss, h3, hyena-li, hyena-mr, hyena-se, linear-attention, mamba2, "
    "rwkv, s4d"
)


def test_a_pattern_repeats_from_the_first_layer() -> None:
    config = ModelConfig(layers=5, mixers="hyena, hyena,attention")
    assert config.layer_mixers() == ["hyena", "hyena", "attention", "hyena", "hyena"]


def test_derived_sizes() -> None:
    config = ModelConfig(vocab_size=50257, width=768)
    assert (config.hidden, config.heads, config.padded_vocab) == (3072, 12, 50264)
    assert ModelConfig(mlp_width=7).hidden == 7
    assert ModelConfig(width=32).heads == 1
    assert ModelConfig(width=192, head_dim=32).heads == 6
    assert ModelConfig(width=192, head_dim=32, mixers="attention", kv_heads=3).kv_heads == 3
    assert ModelConfig(vocab_size=256).padded_vocab == 256


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 0}, "model.vocab_size: expected at least 1, got 0"),
        ({"width": -1}, "model.width: expected at least 1, got -1"),
        ({"layers": 0}, "model.layers: expected at least 1, got 0"),
        ({"max_length": 0}, "model.max_length: expected at least 1, got 0"),
        ({"vocab_multiple": 0}, "model.vocab_multiple: expected at least 1, got 0"),
        ({"short_width": 0}, "model.short_width: expected at least 1, got 0"),
        ({"mlp_width": 0}, "model.mlp_width: expected at least 1, got 0"),
        ({"head_dim": 0}, "model.head_dim: expected at least 1, got 0"),
        ({"order": 1}, "model.order: expected at least 2, got 1"),
        ({"width": 10**19}, "model.width: expected at most 1048576, got 10000000000000000000"),
        ({"layers": 2**32}, "model.layers: expected at most 1024, got 4294967296"),
        (
            {"max_length": 2**63},
            "model.max_length: expected at most 2147483648, got 9223372036854775808",
        ),
        (
            {"filter": FilterConfig(depth=2**32)},
            "model.filter.depth: expected at most 1024, got 4294967296",
        ),
        ({"filter": FilterConfig(taps=0)}, "model.filter.taps: expected at least 1, got 0"),
        (
            {"ssm": SSMConfig(state=2**40)},
            "model.ssm.state: expected at most 1048576, got 1099511627776",
        ),
        ({"width": "64"}, "model.width: expected a whole number, got '64'"),
        ({"layers": 2.5}, "model.layers: expected a whole number, got 2.5"),
        ({"head_dim": True}, "model.head_dim: expected a whole number, got True"),
        ({"vocab_size": None}, "model.vocab_size: expected a whole number, got None"),
        ({"local_width": 2.5}, "model.local_width: expected a whole number, got 2.5"),
        ({"mixers": 3}, "model.mixers: expected a str, got 3"),
        ({"mixers": 10**5000}, "model.mixers: expected a str, got an int of some 5001 digits"),
        (
            {"dropout": 10**5000},
            "model.dropout: expected 0 ≤ dropout < 1, got an int of some 5001 digits",
        ),
        ({"filter": {"kind": "s4d"}}, "model.filter: expected a FilterConfig, got {'kind': 's4d'}"),
        ({"ssm": None}, "model.ssm: expected a SSMConfig, got None"),
        ({"dropout": "a"}, "model.dropout: expected 0 ≤ dropout < 1, got 'a'"),
        ({"dropout": 1.0}, "model.dropout: expected 0 ≤ dropout < 1, got 1.0"),
        ({"dropout": -0.1}, "model.dropout: expected 0 ≤ dropout < 1, got -0.1"),
        ({"dropout": False}, "model.dropout: expected 0 ≤ dropout < 1, got False"),
        ({"block_causal": 1}, "model.block_causal: expected True or False, got 1"),
        ({"block_causal": "no"}, "model.block_causal: expected True or False, got 'no'"),
        (
            {"filter": FilterConfig(window=None)},  # type: ignore[arg-type]
            "model.filter.window: expected True or False, got None",
        ),
        (
            {"filter": FilterConfig(shift=True)},
            "model.filter.shift: expected a finite number, got True",
        ),
        (
            {"filter": FilterConfig(sine_freq=float("nan"))},
            "model.filter.sine_freq: expected a finite number, got nan",
        ),
        (
            {"ssm": SSMConfig(dt_min="0.1")},  # type: ignore[arg-type]
            "model.ssm.dt_min: expected a finite number, got '0.1'",
        ),
        (
            {"mixers": "hyena,attention", "width": 100, "head_dim": 64},
            "model.mixers=attention: expected an even head_dim that divides width, got width=100, "
            "head_dim=64",
        ),
        (
            {"mixers": "mamba2", "width": 100},
            "model.mixers=mamba2: expected a head_dim that divides 2 · width, got width=100, "
            "head_dim=64",
        ),
        (
            {"length_policy": "truncate"},
            "model.length_policy: expected one of error, extrapolate, interpolate, got 'truncate'",
        ),
        ({"activation": None}, "model.activation: expected a str, got None"),
        (
            {"activation": "gelu,relu"},
            "model.activation='gelu,relu': 'relu' is no activation; expected gelu-tanh, gelu, "
            "silu, identity, or a comma-separated list of them",
        ),
        (
            {"activation": ""},
            "model.activation='': '' is no activation; expected gelu-tanh, gelu, silu, identity, "
            "or a comma-separated list of them",
        ),
        ({"norm": "batch"}, "model.norm: expected one of layer, rms, got 'batch'"),
        ({"mlp": "wide"}, "model.mlp: expected one of plain, gated, got 'wide'"),
        ({"tied": 1}, "model.tied: expected True or False, got 1"),
        ({"in_proj_bias": None}, "model.in_proj_bias: expected True or False, got None"),
        ({"norm_eps": "1"}, "model.norm_eps: expected a finite number, got '1'"),
        ({"norm_eps": 0}, "model.norm_eps: expected a number above 0, got 0.0"),
        ({"rotary_base": -1.0}, "model.rotary_base: expected a number above 0, got -1.0"),
        ({"rotary_scale": 0.0}, "model.rotary_scale: expected a number above 0, got 0.0"),
        ({"kv_heads": 0}, "model.kv_heads: expected at least 1, got 0"),
        (
            {"mixers": "hyena,attention", "width": 192, "kv_heads": 2},
            "model.kv_heads: expected a divisor of the 3 heads of attention, got 2",
        ),
        ({"filter": FilterConfig(groups=0)}, "model.filter.groups: expected at least 1, got 0"),
        ({"striped": None}, "model.striped: expected a StripedConfig, got None"),
        (
            {"striped": StripedConfig(short_taps=0)},
            "model.striped.short_taps: expected at least 1, got 0",
        ),
        (
            {"striped": StripedConfig(medium_decay=1)},  # type: ignore[arg-type]
            "model.striped.medium_decay: expected True or False, got 1",
        ),
        (
            {"striped": StripedConfig(groups=2.5)},  # type: ignore[arg-type]
            "model.striped.groups: expected a whole number, got 2.5",
        ),
        (
            {"mixers": "hyena,mamba"},
            f"model.mixers='hyena,mamba': 'mamba' is no mixer; expected {KNOWN}, or a "
            "comma-separated pattern of them",
        ),
        (
            {"mixers": ""},
            f"model.mixers='': '' is no mixer; expected {KNOWN}, or a comma-separated "
            "pattern of them",
        ),
    ],
)
def test_a_bad_value_is_one_clear_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the whole text is compared)
        ModelConfig(**values)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"filter": FilterConfig(emb_dim=4)},
            "^model.filter.kind=hyena: expected an odd model.filter.emb_dim ≥ 3",
        ),
        (
            {"filter": FilterConfig(depth=1)},
            "hyena: expected model.filter.depth ≥ 2 linear layers, got 1",
        ),
        ({"filter": FilterConfig(width=0)}, "filter.width: expected at least 1, got 0"),
        (
            {"filter": FilterConfig(fast_decay=2.0)},
            "expected 0 < model.filter.fast_decay ≤ model.filter.slow_decay",
        ),
        (
            {"filter": FilterConfig(fast_decay=1e-300)},
            "expected model.filter.fast_decay of at least 5e-30, got 1e-300",
        ),
        (
            {"mixers": "attention", "width": 100},
            "expected an even head_dim that divides width, got width=100, head_dim=64",
        ),
        (
            {"mixers": "s4d", "ssm": SSMConfig(state=3)},
            "^model.mixers=s4d: expected an even model.ssm.state ≥ 2",
        ),
        (
            {"filter": FilterConfig(kind="s4d", state=3)},
            "^model.filter.kind=s4d: expected an even model.filter.state ≥ 2",
        ),
        (
            {"filter": FilterConfig(kind="fourier"), "max_length": 32},
            "^model.filter.kind=fourier: model.max_length 32 has 17 .*lower model.filter.modes",
        ),
        ({"mixers": "gss", "width": 15}, "^model.mixers=gss: expected a width that 4 divides"),
        ({"mixers": "attention", "head_dim": 3}, "got width=192, head_dim=3"),
    ],
)
def test_what_a_layer_refuses_is_refused_by_the_names_of_the_options(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageModel(ModelConfig(**values), device="meta")


@pytest.mark.parametrize("mixer", SPECS)
def test_heads_that_no_layer_takes_are_refused_by_the_configuration(mixer: str) -> None:
    spec = SPECS[mixer]
    for width, head_dim in product((12, 15, 18, 68), (None, 1, 2, 3, 5, 6, 9)):
        try:
            config = ModelConfig(mixers=mixer, width=width, head_dim=head_dim, layers=1)
        except ValueError:
            with pytest.raises(ValueError, match="head_dim that divides"):
                spec.type(width, head_dim=head_dim, device="meta")
            continue
        if mixer != "gss":  # whose channels are a quarter
            LanguageModel(config, device="meta")


@pytest.mark.cpu
def test_numbers_may_be_of_numpy_and_are_saved(tmp_path: Path) -> None:
    filter = FilterConfig(
        width=np.int8(4),
        emb_dim=np.int8(5),
        sine_freq=np.float32(2),
        train_sine_freq=cast(bool, np.bool_(True)),
    )
    small = {"vocab_size": 100, "width": 100, "layers": 2, "max_length": 20, "vocab_multiple": 8}
    config = ModelConfig(**{k: np.int8(v) for k, v in small.items()}, filter=filter)
    assert (config.padded_vocab, config.hidden, type(config.filter.width)) == (104, 400, int)
    model = LanguageModel(config)
    model.save(tmp_path / "model")
    assert hyena.load(tmp_path / "model").config == config


def test_a_trained_encoding_is_of_layers_whose_filters_have_one() -> None:
    trained = FilterConfig(train_encoding=True)
    assert ModelConfig(filter=trained).has_table
    assert not ModelConfig(filter=trained, mixers="attention").has_table
    assert not ModelConfig(filter=FilterConfig("explicit", train_encoding=True)).has_table
