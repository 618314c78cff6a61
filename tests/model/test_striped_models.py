"""Models of StripedHyena's layers: short, medium and long filters, attention of shared keys, and
layers without biases, against their definition and against themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_all_close, assert_close, relative_error
from model_definition import logits
from small_models import STRIPES, gradients, small_config, small_model, tokens
from torch import Tensor

import hyena
from hyena.mixers.hyena import groups
from hyena.model import FilterConfig, LanguageModel, ModelConfig, streaming
from hyena.model.build import layers_in_words, without_effect
from hyena.model.config import StripedConfig
from hyena.training import OptimizerConfig, adamw

L = 23
SIZES = StripedConfig(groups=4, short_taps=5, medium_taps=9, modes=3)
PATTERN = "hyena-se,hyena-mr,hyena-li,attention"
MODELS: dict[str, dict[str, Any]] = {
    "StripedHyena 2": {
        "mixers": PATTERN,
        "layers": 4,
        "striped": SIZES,
        "in_proj_bias": False,
        "rotary_base": 100.0,
        "rotary_scale": 4.0,
        **STRIPES,
    },
    "with biases": {"mixers": PATTERN, "layers": 4, "striped": SIZES},
    "longer filters than inputs": {"mixers": "hyena-se,hyena-mr", "layers": 2},
    "taps as they are": {
        "mixers": "hyena-mr",
        "layers": 1,
        "striped": StripedConfig(groups=1, medium_taps=9, medium_decay=False),
    },
    "StripedHyena": {
        "mixers": "hyena,hyena,attention",
        "order": 2,
        "filter": FilterConfig(kind="modal", modes=3, groups=2),
        "kv_heads": 1,
        **STRIPES,
    },
    "of another order": {"filter": FilterConfig(kind="modal", modes=3), "layers": 2},
    "groups of taps": {"filter": FilterConfig(kind="explicit", taps=6, groups=3), "layers": 2},
}
each_model = pytest.mark.parametrize("name", MODELS)


def made(name: str, dtype: torch.dtype = torch.float64, **changes: Any) -> LanguageModel:
    return small_model(dtype=dtype, **{"max_length": 40, **MODELS[name], **changes})


@each_model
@pytest.mark.parametrize("length", [1, 3, L])
@torch.no_grad()
def test_logits_are_those_of_the_definition(name: str, length: int) -> None:
    model, ids = made(name), tokens(2, length)
    expected = torch.stack([logits(model.config, model.state_dict(), row) for row in ids])
    assert_close(model(ids), expected, 1e-11)


@each_model
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-5), (torch.bfloat16, 0.1)])
@torch.no_grad()
def test_in_narrow_numbers(name: str, dtype: torch.dtype, bound: float) -> None:
    model, ids = made(name, dtype), tokens(2, L)
    expected = torch.stack([logits(model.config, model.state_dict(), row) for row in ids])
    assert_close(model(ids).double(), expected, bound)


@each_model
@pytest.mark.parametrize("known", [1, 4, 22])
@pytest.mark.parametrize("future", [None, 22])
@torch.no_grad()
def test_prefill_and_steps_are_the_forward_pass(name: str, known: int, future: int | None) -> None:
    model, ids = made(name, max_length=50), tokens(2, L)
    found, state = model.prefill(ids[:, :known], future=future)
    parts = [found]
    for t in range(known, L):
        y, state = model.step(ids[:, t], state)
        parts.append(y[:, None])
    assert_close(torch.cat(parts, 1), model(ids), 1e-10)


@each_model
@torch.no_grad()
def test_a_prefill_goes_on_from_a_state(name: str) -> None:
    model, ids = made(name), tokens(2, L)
    first, state = model.prefill(ids[:, :2])
    second, state = model.prefill(ids[:, 2:9], state=state)
    third, _ = model.prefill(ids[:, 9:], state=state)
    assert_close(torch.cat([first, second, third], 1), model(ids), 1e-10)


@each_model
def test_the_state_of_all_but_attention_is_of_one_size(name: str) -> None:
    model = LanguageModel(small_config(**{"max_length": 4096, **MODELS[name]}), device="meta")
    sizes = [model.state_size(length) for length in (40, 80, 4000)]
    of_attention = model.config.layer_mixers().count("attention")
    heads = model.config.kv_heads or model.config.heads
    each = 2 * heads * 4 * of_attention  # numbers a token, of heads of 4
    assert [size - sizes[0] for size in sizes] == [0, 40 * each, 3960 * each]


@each_model
def test_packed_documents_and_padded_rows_are_separate_ones(name: str) -> None:
    model, ids = made(name).train(), tokens(1, L)
    documents = (torch.arange(L) >= 9).long()[None]
    both = [model(ids[:, :9]), model(ids[:, 9:])]
    assert_close(model(ids, document_ids=documents), torch.cat(both, 1), 1e-10)
    mask = torch.arange(L) >= torch.tensor([[0], [5]])
    rows = torch.cat([ids, tokens(1, L, seed=3)])
    padded = model(rows, mask=mask)
    assert_close(padded[1, 5:], model(rows[1:, 5:])[0], 1e-10)
    assert_close(padded[:1], model(ids), 1e-10)


@pytest.fixture
def _short_rows_go_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "SHORTEST", 1)
    monkeypatch.setattr(streaming, "LEAST_SLICE_BYTES", 5 * 480)


@each_model
@pytest.mark.usefixtures("_short_rows_go_by_groups")
@pytest.mark.parametrize("most", [1, 5])
def test_in_pieces_it_is_the_whole(name: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_GROUPS", most)  # which cut groups of channels
    model, ids = made(name), tokens(2, L)
    with torch.no_grad():
        model.working_memory = 1 << 40
        expected, (wanted, before) = model(ids), model.prefill(ids)
        model.working_memory = 0
        assert_close(model(ids), expected, 1e-12)
        y, state = model.prefill(ids)
        assert_close(y, wanted, 1e-12)
        for token in tokens(3, 2):
            y, state = model.step(token, state)
            wanted, before = model.step(token, before)
            assert_close(y, wanted, 1e-11)


@each_model
@pytest.mark.usefixtures("_short_rows_go_by_groups")
@pytest.mark.parametrize("packed", [False, True])
def test_recomputed_blocks_have_the_same_gradients(name: str, packed: bool) -> None:
    model, ids = made(name).train(), tokens(2, L)
    options: dict[str, Tensor] = {}
    if packed:
        options["document_ids"] = torch.stack([torch.arange(L) // 5, torch.arange(L) // 9])
    found = []
    for pieces in (False, True):
        model.activation_checkpointing = pieces
        model.working_memory = 0 if pieces else 1 << 40
        loss = model(ids, targets=ids.roll(-1, 1), **options)
        loss.backward()
        found.append((loss.detach(), gradients(model)))
    (expected, wanted), (loss, got) = found
    assert_close(loss, expected, 1e-12)
    assert_all_close([got[name] for name in wanted], list(wanted.values()), 1e-10)


@each_model
def test_a_training_step_reaches_every_parameter(name: str) -> None:
    model, ids = made(name).train(), tokens(2, L)
    optimizer = adamw(model, OptimizerConfig(lr=1e-3))
    before = model(ids[:, :-1], targets=ids[:, 1:])
    before.backward()
    for parameter, gradient in gradients(model).items():
        assert bool(gradient.isfinite().all()), parameter
        assert bool(gradient.any()), parameter
    model(ids[:, :-1], targets=ids[:, 1:]).backward()
    optimizer.step()
    assert model(ids[:, :-1], targets=ids[:, 1:]) < before


@each_model
@pytest.mark.cpu
def test_under_autocast(name: str) -> None:
    model, ids = made(name, torch.float32), tokens(2, L)
    exact = model(ids).detach()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(ids)
    assert_close(y.detach().float(), exact, 0.1)


@each_model
@pytest.mark.cpu
def test_it_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    model, ids = made(name, torch.float32), tokens(2, 9)
    model.save(tmp_path)
    loaded = hyena.load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(loaded(ids), model(ids))


def test_the_names_and_sizes_of_each_layer() -> None:
    model = LanguageModel(small_config(**MODELS["StripedHyena 2"]), device="meta")
    found = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    of_block = {
        "norm1.weight": (12,),
        "norm2.weight": (12,),
        "mlp.gate.weight": (20, 12),
        "mlp.up.weight": (20, 12),
        "mlp.down.weight": (12, 20),
        "mixer.in_proj.weight": (36, 12),
        "mixer.out_proj.weight": (12, 12),
        "mixer.out_proj.bias": (12,),
    }
    short = {"mixer.short_conv.weight": (36, 3)}
    of_mixers: list[dict[str, tuple[int, ...]]] = [
        {**short, "mixer.filter.taps.weight": (1, 4, 5)},
        {**short, "mixer.filter.taps.weight": (1, 4, 9), "mixer.filter.skip": (1, 12)},
        {
            **short,
            "mixer.filter.skip": (1, 12),
            "mixer.filter.taps.log_poles": (1, 12, 3),
            "mixer.filter.taps.residues": (1, 12, 3),
        },
        {},
    ]
    expected: dict[str, tuple[int, ...]] = {
        f"blocks.{i}.{name}": shape
        for i, own in enumerate(of_mixers)
        for name, shape in {**of_block, **own}.items()
    }
    expected |= {"embedding.weight": (32, 12), "norm.weight": (12,), "head.weight": (32, 12)}
    assert found == expected


@pytest.mark.parametrize(
    ("options", "unread"),
    [
        ({"mixers": "hyena-se", "striped": StripedConfig(4, short_taps=5)}, []),
        ({"mixers": "hyena-se", "striped": StripedConfig(modes=5)}, ["striped.modes"]),
        ({"mixers": "hyena-mr", "striped": StripedConfig(4, 7, 9, False)}, []),
        ({"mixers": "hyena-li", "striped": StripedConfig(modes=5)}, []),
        ({"mixers": "hyena-li", "striped": StripedConfig(4)}, ["striped.groups"]),
        ({"mixers": "hyena-li", "order": 3}, ["order"]),
        ({"mixers": "hyena-li", "filter": FilterConfig("explicit")}, ["filter.kind"]),
        ({"mixers": "hyena-li,hyena", "order": 3, "short_width": 4}, []),
        ({"mixers": "hyena-li", "in_proj_bias": False, "short_width": 4}, []),
        ({"mixers": "hyena", "striped": StripedConfig(4)}, ["striped.groups"]),
        ({"mixers": "attention", "kv_heads": 1, "rotary_base": 9.0, "rotary_scale": 2.0}, []),
        ({"mixers": "attention", "in_proj_bias": False}, []),
        ({"filter": FilterConfig("modal", modes=4, groups=4)}, []),
        ({"filter": FilterConfig("explicit", taps=4, groups=4)}, []),
        ({"filter": FilterConfig("s4d", groups=4)}, ["filter.groups"]),
    ],
)
def test_what_has_no_effect(options: dict[str, Any], unread: list[str]) -> None:
    assert without_effect(ModelConfig(width=32, **options)) == unread


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mixers": "hyena-se", "striped": StripedConfig(5)},
            r"^model\.striped: .*model\.striped\.groups.*5",
        ),
        (
            {"filter": FilterConfig("modal", groups=5)},
            r"^model\.filter\.kind=modal: .*model\.filter\.groups.*5",
        ),
        (
            {"mixers": "hyena-li", "length_policy": "interpolate"},
            "^model.length_policy=interpolate is of hyena filters, but model.mixers has others; "
            "choose error or extrapolate$",
        ),
    ],
)
def test_what_a_filter_refuses_is_refused_by_the_names_of_the_options(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LanguageModel(ModelConfig(width=32, **options), device="meta")


def test_layers_in_words() -> None:
    words = layers_in_words(small_config(PATTERN, layers=4))
    assert words == "hyena-se, hyena-mr, hyena-li, attention"


@pytest.mark.parametrize("mixer", ["hyena-se", "hyena-mr", "hyena-li"])
def test_operations_are_counted(mixer: str) -> None:
    model = LanguageModel(small_config(mixer, layers=1, striped=SIZES), device="meta")
    table = model.flops(16, 2)
    [layer] = table.executed.layers
    assert layer["projections"] == 2 * 3 * 12 * 12 * 32
    assert layer["output"] == 2 * 12 * 12 * 32
    assert layer.total > layer["projections"] + layer["output"] + layer["mlp"]
    assert table.paper.layers == table.executed.layers  # the paper has no formula for them


@torch.no_grad()
def test_extrapolation_goes_on_with_the_same_filters() -> None:
    model = made("StripedHyena 2", max_length=9, length_policy="extrapolate")
    longer, ids = made("StripedHyena 2"), tokens(2, L)
    assert_close(model(ids), longer(ids), 1e-12)
    y, state = model.prefill(ids[:, :9])
    for t in range(9, L):
        y, state = model.step(ids[:, t], state)
    assert_close(y, longer(ids)[:, -1], 1e-10)


@pytest.mark.parametrize("name", ["StripedHyena 2", "StripedHyena"])
def test_no_token_moves_an_earlier_logit(name: str) -> None:
    model, ids = made(name), tokens(1, L)
    moved = ids.clone()
    moved[:, 11] = (moved[:, 11] + 1) % 29
    before, after = model(ids), model(moved)
    assert_close(after[:, :11], before[:, :11], 1e-12)
    assert not torch.equal(after[:, 11:], before[:, 11:])
    assert relative_error(after[:, 11], before[:, 11]) > 1e-3
