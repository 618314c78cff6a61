"""replace_attention: what is swapped, and the example."""

import copy
import runpy
from pathlib import Path

import pytest
import torch
from encoders_with_hyena import (
    HEADS,
    LENGTH,
    WIDTH,
    as_float,
    causal_mask,
    encoder,
    source,
    swapped,
)
from torch import nn

from hyena.filters import HyenaFilter
from hyena.mixers import CausalSelfAttention, HyenaOperator
from hyena.mixers.replacing.multihead import MultiheadAttentionAdapter
from hyena.mixers.replacing.replace import replace_attention


def test_names_are_returned_in_order_and_modules_swapped() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), encoder())
    assert replace_attention(model, LENGTH, causal=False) == [
        "1.layers.0.self_attn",
        "1.layers.1.self_attn",
    ]
    assert not any(isinstance(m, nn.MultiheadAttention) for m in model.modules())
    assert sum(isinstance(m, HyenaOperator) for m in model.modules()) == 2


def test_settings_reach_the_operator() -> None:
    model = encoder(1)
    replace_attention(
        model,
        100,
        causal=True,
        order=3,
        short_width=5,
        length_policy="extrapolate",
        backend="naive",
    )
    mixer = model.layers[0].self_attn.mixer
    assert (mixer.order, mixer.short_width, mixer.max_length) == (3, 5, 100)
    assert (mixer.backend, mixer.filter.length_policy) == ("naive", "extrapolate")
    assert not mixer.bidirectional


@pytest.mark.parametrize(("given", "expected"), [(None, 0.25), (0.5, 0.5), (0.0, 0.0)])
def test_dropout_is_that_of_the_module_replaced_unless_given(
    given: float | None, expected: float
) -> None:
    model = nn.ModuleList([nn.MultiheadAttention(WIDTH, HEADS, dropout=0.25)])
    replace_attention(model, LENGTH, causal=True, dropout=given)
    assert model[0].mixer.dropout == expected


def test_a_filter_is_made_for_each_operator_of_its_width() -> None:
    model = nn.ModuleList([nn.MultiheadAttention(w, 2, dtype=torch.float64) for w in (4, 6)])
    replace_attention(
        model,
        LENGTH,
        causal=True,
        order=3,
        filter=lambda width: HyenaFilter(width, LENGTH, filters=2, sine_freq=3.0),
    )
    filters = [m.mixer.filter for m in model]
    assert [f.channels for f in filters] == [4, 6]
    assert filters[0].sine_freq.unique().tolist() == [3.0]
    assert filters[0].sine_freq.dtype == torch.float64


def test_cross_attention_of_a_decoder_layer_is_left_alone() -> None:
    model = nn.Transformer(WIDTH, HEADS, 1, 1, 16, dropout=0.0, batch_first=True).double()
    cross = model.decoder.layers[0].multihead_attn
    names = replace_attention(model, LENGTH, causal=True, names=r"^decoder\.")
    assert names == ["decoder.layers.0.self_attn"]
    names = replace_attention(model, LENGTH, causal=False)
    assert names == ["encoder.layers.0.self_attn"]
    assert model.decoder.layers[0].multihead_attn is cross
    y = model(source(), source(length=7), tgt_mask=as_float(causal_mask(7)))
    assert y.shape == (3, 7, WIDTH)

    layer = nn.TransformerDecoderLayer(WIDTH, HEADS)
    assert replace_attention(layer, LENGTH, causal=True) == ["self_attn"]


def test_names_choose_by_pattern_or_predicate() -> None:
    model = encoder(3)
    assert replace_attention(model, LENGTH, causal=False, names="layers.1") == [
        "layers.1.self_attn"
    ]
    last = replace_attention(
        model, LENGTH, causal=False, names=lambda name, module: module.batch_first and "2" in name
    )
    assert last == ["layers.2.self_attn"]
    assert isinstance(model.layers[0].self_attn, nn.MultiheadAttention)


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        ("layers.1", [1]),  # and not layers.10
        ("1", [1]),
        (r"layers\.1\.", [1]),
        (r"^layers\.1", [1]),
        (["layers.0", "layers.10"], [0, 10]),
        ("layers.0|layers.1|layers.10", [0, 1, 10]),
        (r"layers\.1\d", [10]),
        ("self_attn", [*range(11)]),
        (r"\.self_attn$", [*range(11)]),
        ("", [*range(11)]),
    ],
    ids=str,
)
def test_names_are_whole_parts(names: str | list[str], layers: list[int]) -> None:
    model = nn.ModuleDict(
        {
            "layers": nn.ModuleList(
                nn.ModuleDict({"self_attn": nn.MultiheadAttention(2, 1)}) for _ in range(11)
            )
        }
    )
    expected = [f"layers.{i}.self_attn" for i in layers]
    assert replace_attention(model, 8, causal=True, names=names) == expected


def test_a_part_of_a_word_names_nothing() -> None:
    for names in ("attn", "self", "layer", "layers.1.self"):
        with pytest.raises(ValueError, match=f"names='{names}' matched none of the 2 self-att"):
            replace_attention(encoder(), LENGTH, causal=False, names=names)


def test_own_attention_is_replaced_by_the_operator_itself() -> None:
    model = nn.ModuleDict({"mixer": CausalSelfAttention(WIDTH, head_dim=4, dropout=0.25)}).double()
    assert replace_attention(model, LENGTH, causal=True) == ["mixer"]
    mixer = model["mixer"]
    assert isinstance(mixer, HyenaOperator)
    assert (mixer.width, mixer.dropout, mixer.bidirectional) == (WIDTH, 0.25, False)
    assert mixer(source()).dtype == torch.float64


def test_a_shared_module_stays_shared() -> None:
    shared = nn.MultiheadAttention(WIDTH, HEADS)
    model = nn.ModuleDict({"a": shared, "b": nn.ModuleList([shared])})
    model["c"] = nn.MultiheadAttention(WIDTH, HEADS)
    assert replace_attention(model, LENGTH, causal=True) == ["a", "b.0", "c"]
    assert model["a"] is model["b"][0]
    assert model["a"] is not model["c"]

    layer = nn.TransformerEncoderLayer(WIDTH, HEADS)
    model = nn.ModuleList([layer, layer])
    assert replace_attention(model, LENGTH, causal=True) == ["0.self_attn", "1.self_attn"]
    assert isinstance(layer.self_attn, MultiheadAttentionAdapter)


@pytest.mark.cpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_device_dtype_and_mode_are_kept(
    dtype: torch.dtype, device: str, training: bool, causal: bool
) -> None:
    model = encoder(1).to(device, dtype).train(training)
    replace_attention(model, LENGTH, causal=causal)
    tensors = [*model.parameters(), *model.buffers()]
    assert {(t.device.type, t.dtype) for t in tensors} == {(device, dtype)}
    assert {m.training for m in model.modules()} == {training}
    u = torch.zeros(2, LENGTH, WIDTH, device=device, dtype=dtype)
    pad = torch.zeros(2, LENGTH, dtype=torch.bool, device=device)
    with torch.no_grad():
        y = model(u, src_key_padding_mask=pad)
    assert (y.shape, y.dtype, y.device.type) == (u.shape, dtype, device)


def test_order_of_siblings_is_kept() -> None:
    model = nn.Sequential(nn.Linear(1, 1), encoder(1), nn.ReLU())
    layer = model[1].layers[0]
    before = list(layer._modules)
    replace_attention(model, LENGTH, causal=False)
    assert list(layer._modules) == before


def test_state_dict_round_trip() -> None:
    first, second = swapped(), swapped()
    u = source()
    first.eval(), second.eval()
    assert not torch.equal(first(u), second(u))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(u), second(u))
    names = [n for n, _ in first.named_parameters() if "self_attn" in n]
    assert names
    assert all(".self_attn.mixer." in n for n in names)  # each once, under the mixer
    assert torch.equal(copy.deepcopy(first)(u), first(u))


def test_the_example_learns(capsys: pytest.CaptureFixture[str]) -> None:
    example = Path(__file__).parents[2] / "examples" / "replace_attention.py"
    first, last = runpy.run_path(str(example))["main"]()
    assert last < 0.5 * first  # guessing stays at log(8), close to the first
    assert "replaced: encoder.layers.0.self_attn, encoder.layers.1.self_attn" in (
        capsys.readouterr().out
    )
