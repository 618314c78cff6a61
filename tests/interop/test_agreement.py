"""What the weights, a configuration and settings say of one model has to agree; what they do not
say is what the families' programs take."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from released import (
    CONFIG_OF_HYENADNA,
    golden,
    random_state,
    state_of_hyenadna,
    stripedhyena,
    stripedhyena2,
    with_frequencies,
)
from safetensors.torch import save_file
from torch import Tensor

import hyena
from hyena.interop import convert, pytorch_file
from hyena.interop.striped import base_of
from hyena.model.config import StripedConfig
from hyena.model.label_head import LabelHead, Labels

STRIPED_1 = {
    "hidden_size": 32,
    "num_layers": 3,
    "num_attention_heads": 4,
    "eps": 1e-5,
    "rotary_emb_base": 500000,
    "max_seqlen": 64,
}
STRIPED_2 = {
    "hidden_size": 32,
    "num_layers": 4,
    "num_attention_heads": 4,
    "eps": 1e-6,
    "interleave": True,
    "column_split_hyena": False,
    "rotary_emb_base": 10000,
    "max_seqlen": 256,
}
DNA = {"window": True, "normalized": False, "shift": 0.05, "vocab_size": 12}


def one(**sizes: Any) -> dict[str, Tensor]:
    """A file of StripedHyena."""
    return with_frequencies(random_state(stripedhyena(**sizes)), 500000.0)


def two(**sizes: Any) -> dict[str, Tensor]:
    """A file of StripedHyena 2."""
    return with_frequencies(random_state(stripedhyena2(**sizes)), 10000.0)


def folder(path: Path, state: dict[str, Tensor], configuration: dict[str, Any] | None) -> Path:
    path.mkdir(exist_ok=True)
    save_file(state, path / "model.safetensors")
    if configuration is not None:
        (path / "config.json").write_text(json.dumps(configuration))
    return path if configuration is not None else path / "model.safetensors"


@torch.no_grad()
def test_projections_lie_by_heads_where_stripedhyenas_configuration_does_not_say(
    tmp_path: Path,
) -> None:
    ids = torch.arange(20)[None]
    silent = hyena.load(folder(tmp_path / "a", one(), STRIPED_1))
    for by_head in (True, False):
        said = {**STRIPED_1, "column_split_hyena": by_head}
        other = hyena.load(folder(tmp_path / f"{by_head}", one(), said))
        assert torch.equal(other(ids), silent(ids)) is by_head


def test_a_configuration_without_sizes_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"do not say norm_eps \(.*activation \(.*projections \("):
        hyena.load(folder(tmp_path, two(), {"model_type": "evo2"}))


@pytest.mark.parametrize(
    ("state", "configuration", "message"),
    [
        (one, {**STRIPED_1, "num_layers": 4}, "num_layers 4, the weights 3; give the one that"),
        (one, {**STRIPED_1, "hidden_size": 64}, "hidden_size 64, the weights 32"),
        (one, {**STRIPED_1, "attn_layer_idxs": [2]}, r"attn_layer_idxs \[2\], the weights \[1\]"),
        (one, {**STRIPED_1, "num_attention_heads": 8}, "num_attention_heads 8, the weights 4"),
        (two, {**STRIPED_2, "hcm_layer_idxs": [0]}, r"hcm_layer_idxs \[0\], the weights \[1\]"),
        (state_of_hyenadna, {**CONFIG_OF_HYENADNA, "n_layer": 8}, "n_layer 8, the weights 2"),
        (state_of_hyenadna, {"model": {**CONFIG_OF_HYENADNA, "d_model": 8}}, "d_model 8, the w"),
    ],
)
def test_a_configuration_of_another_model_is_refused(
    state: Any, configuration: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"the configuration is of another model: .*{message}"):
        hyena.load(folder(tmp_path, state(), configuration))


def test_layers_of_hyena_may_be_listed_beyond_the_last_as_in_the_7b(tmp_path: Path) -> None:
    hyena.load(folder(tmp_path, one(), {**STRIPED_1, "hyena_layer_idxs": [0, 2, 4]}))


LAYER: dict[str, Any] = CONFIG_OF_HYENADNA["layer"]  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("state", "configuration", "name"),
    [
        (state_of_hyenadna, {**CONFIG_OF_HYENADNA, "layer": {**LAYER, name: value}}, name)
        for name, value in (
            ("bidirectional", True),
            ("outer_mixing", True),
            ("num_blocks", 2),
            ("activation", "gelu"),
        )
    ]
    + [
        (one, {**STRIPED_1, "smeared_gqa": True}, "smeared_gqa"),
        (one, {**STRIPED_1, "final_norm": False}, "final_norm"),
        (two, {**STRIPED_2, "column_split_hyena": True}, "interleave"),
    ],
)
def test_a_formula_that_is_not_known_is_refused(
    state: Any, configuration: dict[str, Any], name: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"the configuration says {name}"):
        hyena.load(folder(tmp_path, state(), configuration))


BOOLS = {
    two: (
        *("interleave", "evo2_style_activations", "use_fp8_input_projections"),
        *("use_interpolated_rotary_pos_emb", "column_split_hyena"),
    ),
    one: ("use_interpolated_rotary_pos_emb", "column_split_hyena"),
}


@pytest.mark.parametrize(
    ("state", "name"), [(state, name) for state, names in BOOLS.items() for name in names]
)
def test_what_is_no_truth_value_is_not_taken_for_false(
    state: Any, name: str, tmp_path: Path
) -> None:
    said = STRIPED_1 if state is one else STRIPED_2
    path = folder(tmp_path, state(), said)
    for value in ("true", "yes", 1, 0, [True], {}):
        (path / "config.json").write_text(json.dumps({**said, name: value}))
        with pytest.raises(
            ValueError, match=f"configuration says {name}: .*; expected true or fal"
        ):
            hyena.load(path)


@pytest.mark.parametrize(
    ("state", "name", "value", "message"),
    [
        *((one, "eps", value, "expected a number: write") for value in ("small", True, [1e-5])),
        *((one, "max_seqlen", value, "expected a whole number") for value in ("64", 64.0, True)),
        (one, "rotary_emb_base", "ten", "expected a number"),
        (one, "mlp_activation", 3, "expected a text"),
        (one, "num_attention_heads", "4", "expected a whole number"),
        (one, "vocab_size", 40.5, "expected a whole number"),
        (state_of_hyenadna, "vocab_size", "no", "expected a whole number"),
        (state_of_hyenadna, "layer", "no", "expected names with values"),
        (state_of_hyenadna, "layer_norm_epsilon", "tiny", "expected a number"),
        *(
            (state_of_hyenadna, f"layer.{name}", "${dataset.value}", f"expected {what}")
            for name, what in (
                ("modulate", "true or false"),
                ("normalized", "true or false"),
                ("shift", "a number"),
                ("l_max", "a whole number"),
            )
        ),
    ],
)
def test_a_value_of_another_type_is_not_taken_for_none(
    state: Any, name: str, value: Any, message: str, tmp_path: Path
) -> None:
    said: dict[str, Any] = STRIPED_1 if state is one else CONFIG_OF_HYENADNA
    group, _, inner = name.rpartition(".")
    changed = {group: {**LAYER, inner: value}} if group else {name: value}
    with pytest.raises(ValueError, match=rf"the configuration says {inner}: .*{message}") as error:
        hyena.load(folder(tmp_path, state(), {**said, **changed}))
    assert "\n" not in str(error.value)


def test_null_says_nothing_and_yaml_may_write_numbers_as_texts(tmp_path: Path) -> None:
    said = {**STRIPED_1, "eps": "1e-5", "interleave": None, "mlp_activation": "silu"}
    said |= {"use_interpolated_rotary_pos_emb": None, "hidden_size": 32.0, "num_layers": None}
    config = hyena.load(folder(tmp_path, one(), said)).config
    assert (config.norm_eps, config.rotary_scale, config.layers) == (1e-5, 1.0, 3)


@pytest.mark.parametrize("value", ["64", [32], True], ids=str)
def test_a_size_of_another_type_is_that_of_another_model(value: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"of another model: it says hidden_size .*, the weights 3"
    ):
        hyena.load(folder(tmp_path, one(), {**STRIPED_1, "hidden_size": value}))


@pytest.mark.parametrize(
    ("state", "configuration", "settings", "message"),
    [
        (one, STRIPED_1, {"window": True}, "window is not of a StripedHyena model; expected some"),
        (one, STRIPED_1, {"heads": 2}, "heads=2 was given, but the weights say 4; leave it out"),
        (two, STRIPED_2, {"rotary_base": 1e6}, r"rotary_base=1000000\.0 was given.*say 10000\.0"),
        (one, STRIPED_1, {"vocab_size": 41}, "vocab_size=41, but the embedding has 40 rows"),
        (state_of_hyenadna, None, {**DNA, "heads": 2}, "heads is not of a safari language model"),
        (state_of_hyenadna, None, {**DNA, "max_length": 9}, "max_length=9 was given.* say 66"),
    ],
)
def test_a_setting_that_has_no_effect_is_refused(
    state: Any, configuration: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        hyena.load(folder(tmp_path, state(), configuration), settings=settings)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("heads", 0, "heads=0, but the width is 32; expected a divisor of it"),
        ("rotary_base", 0.0, r"model\.rotary_base: expected a number above 0"),
        ("rotary_scale", 0.0, r"model\.rotary_scale: expected a number above 0"),
        ("max_length", 0, r"model\.max_length: expected at least 1"),
    ],
)
def test_zero_is_not_nothing(name: str, value: float, message: str, tmp_path: Path) -> None:
    state = {n: x for n, x in one().items() if not n.endswith("inv_freq")}
    with pytest.raises(ValueError, match=message):
        hyena.load(folder(tmp_path, state, STRIPED_1), settings={name: value})


def test_settings_that_agree_are_taken(tmp_path: Path) -> None:
    settings = {"heads": 4, "rotary_base": 500000.0, "norm_eps": 1e-4, "max_length": 32}
    config = hyena.load(folder(tmp_path, one(), STRIPED_1), settings=settings).config
    assert (config.heads, config.norm_eps, config.max_length) == (4, 1e-4, 32)


def test_our_own_model_takes_no_layout_where_nothing_is_written_by_it(tmp_path: Path) -> None:
    config = hyena.ModelConfig(width=8, layers=1, max_length=16)
    hyena.LanguageModel(config).save(tmp_path / "ours")
    with pytest.raises(ValueError, match="are of other programs' files"):
        convert(tmp_path / "ours", tmp_path / "a", settings={"layout": "order_major"})
    with pytest.raises(ValueError, match="projections is not of a safari language model"):
        convert(tmp_path / "ours", tmp_path / "b", to="safari", settings={"projections": "split"})


def test_a_bias_that_one_layer_lacks_is_listed(tmp_path: Path) -> None:
    for name in ("blocks.2.projections.bias", "blocks.0.out_filter_dense.bias"):
        state = one()
        del state[name]
        with pytest.raises(ValueError, match=f"does not fit: missing {name}; unknown none"):
            hyena.load(folder(tmp_path, state, STRIPED_1))
    state = {n: x for n, x in one().items() if not n.endswith("out_filter_dense.bias")}
    assert not hyena.load(folder(tmp_path, state, STRIPED_1)).blocks[0].mixer.out_proj.bias.any()


def test_a_bias_of_zeros_is_written_where_another_layers_is_none(tmp_path: Path) -> None:
    config = hyena.ModelConfig(
        width=32,
        layers=2,
        max_length=16,
        mixers="attention",
        norm="rms",
        mlp="gated",
        activation="silu",
        filter=hyena.FilterConfig(kind="modal"),
    )
    model = hyena.LanguageModel(config)
    model.save(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "zeros", to="stripedhyena")
    model.blocks[1].mixer.in_proj.bias.data.fill_(1)
    model.save(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "one", to="stripedhyena")
    for name, count in (("zeros", 0), ("one", 2)):
        text = (tmp_path / name / "model.safetensors").read_bytes()
        assert text.count(b"Wqkv.bias") == count
        said = json.loads((tmp_path / name / "config.json").read_text())
        assert said["qkv_proj_bias"] is bool(count)


INV_FREQ = "blocks.{}.inner_mha_cls.rotary_emb.inv_freq"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({7: 9.0 ** (-torch.arange(4) / 4)}, "differs from .*, but all attention layers"),
        ({3: torch.tensor([1.0, 0.9, 0.2, 0.1]), 7: None}, "are not the powers of one base"),
        ({3: -torch.ones(4), 7: None}, "are not the powers of one base"),
        ({3: torch.ones(5), 7: None}, r"\(5,\) of torch.float32, are not the rotary frequencies"),
        ({3: torch.ones(32), 7: None}, "are not the rotary frequencies of heads of a width of 32"),
        ({3: torch.ones(4, dtype=torch.int64), 7: None}, "are not the rotary frequencies"),
    ],
)
def test_frequencies_of_other_positions_are_refused(
    changes: dict[int, Tensor | None], message: str, tmp_path: Path
) -> None:
    state = two(layout="SDH*SDH*")
    for layer, value in changes.items():
        del state[INV_FREQ.format(layer)]
        if value is not None:
            state[INV_FREQ.format(layer)] = value
    with pytest.raises(ValueError, match=message):
        hyena.load(folder(tmp_path, state, {**STRIPED_2, "num_layers": 8}))


def test_frequencies_scaled_in_parts_have_no_base() -> None:
    frequencies = 500000.0 ** (-torch.arange(64) / 64)
    assert base_of(frequencies) == 500000.0
    with pytest.raises(ValueError, match="are not the powers of one base"):
        base_of(torch.where(frequencies < 0.01, frequencies / 8, frequencies))


def test_times_that_are_not_those_of_the_formula_are_not_left_out(tmp_path: Path) -> None:
    state = state_of_hyenadna()
    z = hyena.HyenaFilter(1, 66, emb_dim=5, train_encoding=True).encoding
    assert z is not None
    for name in state:
        if name.endswith("pos_emb.z"):
            state[name] = z.detach()[None].clone()
    settings = {**DNA, "positions": "computed"}
    hyena.load(folder(tmp_path, state, None), settings=settings)
    state["backbone.layers.1.mixer.filter_fn.pos_emb.t"] *= 2
    with pytest.raises(ValueError, match=r"1\.mixer.*pos_emb\.t was trained, so positions="):
        hyena.load(folder(tmp_path, state, None), settings=settings)


def test_numbers_of_8_bits_are_no_weights(tmp_path: Path) -> None:
    state = one()
    state["norm.scale"] = state["norm.scale"].to(torch.float8_e4m3fn)
    with pytest.raises(ValueError, match=r"norm\.scale, \(32,\) of torch\.float8_e4m3fn, is not"):
        hyena.load(folder(tmp_path, state, STRIPED_1))


def test_a_tied_head_in_other_numbers(tmp_path: Path) -> None:
    state = one(tied=True)
    state["embedding_layer.weight"] = state["embedding_layer.weight"].bfloat16().float()
    state["unembed.weight"] = state["embedding_layer.weight"].bfloat16()
    assert hyena.load(folder(tmp_path, state, STRIPED_1)).config.tied


def test_layers_without_end_are_refused_at_once(tmp_path: Path) -> None:
    state = {**one(), "blocks.999999999.pre_norm.scale": torch.ones(32)}
    with pytest.raises(ValueError, match="this is not a StripedHyena model"):
        hyena.load(folder(tmp_path, state, STRIPED_1))


@torch.no_grad()
def test_in_fewer_bits_our_own_filters_keep_theirs_as_others_do(tmp_path: Path) -> None:
    source = folder(tmp_path / "theirs", two(), STRIPED_2)
    hyena.load(source).save(tmp_path / "ours")
    theirs, ours = (hyena.load(p, dtype=torch.bfloat16) for p in (source, tmp_path / "ours"))
    dtypes = {name: x.dtype for name, x in ours.state_dict().items()}
    assert dtypes == {name: x.dtype for name, x in theirs.state_dict().items()}
    assert {n for n, d in dtypes.items() if d == torch.float32} == {
        *(f"blocks.{i}.mixer.filter.taps.weight" for i in (0, 1)),
        *(f"blocks.2.mixer.filter.taps.{name}" for name in ("log_poles", "residues")),
    }
    ids = torch.arange(40)[None]
    assert torch.equal(ours(ids), theirs(ids))


def of_ours(mixers: str, **striped: Any) -> hyena.LanguageModel:
    config = hyena.ModelConfig(
        width=32,
        layers=4,
        mixers=mixers,
        max_length=300,
        norm="rms",
        mlp="gated",
        activation="gelu,identity",
        in_proj_bias=False,
        striped=StripedConfig(groups=4, **striped),
    )
    return hyena.LanguageModel(config, generator=torch.Generator().manual_seed(0)).double()


@torch.no_grad()
@pytest.mark.parametrize("taps", [60, 128, 140])
@pytest.mark.parametrize("window", [True, False])
def test_medium_filters_are_written_with_their_window_in_them(
    window: bool, taps: int, tmp_path: Path
) -> None:
    model = of_ours("hyena-se,hyena-mr", medium_decay=window, medium_taps=taps)
    model.save(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", to="stripedhyena2")
    written = pytorch_file.read([tmp_path / "theirs/model.pt"])
    assert written["blocks.1.filter.h"].shape == (4, 1, max(taps, 128))
    again = hyena.load(tmp_path / "theirs")
    assert not again.config.striped.medium_decay
    ids = torch.arange(250)[None]
    expected = model.eval()(ids)
    assert float((again(ids) - expected).norm() / expected.norm()) < 1e-12


def test_short_filters_that_programs_take_for_medium_ones_are_refused(tmp_path: Path) -> None:
    of_ours("hyena-se", short_taps=128).save(tmp_path / "ours")
    with pytest.raises(ValueError, match=r"model\.striped\.short_taps is 128, but programs take"):
        convert(tmp_path / "ours", tmp_path / "theirs", to="stripedhyena2")
    of_ours("hyena-se", short_taps=127).save(tmp_path / "others")  # whatever the unread window
    convert(tmp_path / "others", tmp_path / "theirs", to="stripedhyena2")
    assert hyena.load(tmp_path / "theirs").config.striped.short_taps == 127


def test_the_golden_configurations_agree_with_their_weights(tmp_path: Path) -> None:
    for name in ("stripedhyena", "stripedhyena2", "stripedhyena2_interpolated", "hyenadna_lm"):
        arguments, state, _ = golden(name)
        hyena.load(folder(tmp_path / name, state, arguments))


def test_a_head_for_labels_has_no_place_in_other_files(tmp_path: Path) -> None:
    model = of_ours("hyena-se")
    model.label_head = LabelHead(32, Labels("classification", ("a", "b")), dtype=torch.float64)
    model.save(tmp_path / "ours")
    with pytest.raises(ValueError, match=r"the model has label_head\.linear\.bias, .* no place"):
        convert(tmp_path / "ours", tmp_path / "theirs", to="stripedhyena2")
    assert not (tmp_path / "theirs").exists()
    again = convert(tmp_path / "ours", tmp_path / "half", dtype=torch.bfloat16)
    assert again.label_head is not None
    assert again.label_head.linear.weight.dtype is torch.bfloat16
