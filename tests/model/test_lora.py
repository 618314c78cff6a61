"""LoRA of PEFT: adapters train and count in every pass, on every layer that PEFT puts them on."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close, relative_error
from peft import LoraConfig, PeftModel, get_peft_model, inject_adapter_in_model
from peft.tuners.lora import Embedding, LoraLayer
from recomputing import PACKED, L, assert_same
from small_models import STRIPES, small_model, tokens
from torch import Tensor, nn

import hyena
from hyena.generation import generate
from hyena.mixers import SPECS
from hyena.model import PROJECTIONS, FilterConfig, LanguageModel
from hyena.model.label_head import LabelHead, Labels
from hyena.model.label_outputs import label_outputs

MODELS: dict[str, dict[str, Any]] = {
    "order 3": {"mixers": "hyena"},
    "order 2": {"mixers": "hyena", "order": 2},
    "as StripedHyena": {"mixers": "hyena,attention", **STRIPES},
    "explicit": {"mixers": "hyena", "filter": FilterConfig(kind="explicit", taps=7)},
    **{name: {"mixers": name} for name in SPECS if name != "hyena"},
}
TARGETS: dict[str, Any] = {
    "projections": PROJECTIONS,
    "embedding": [*PROJECTIONS, "embedding"],
    "filters": r".*\.filter\.layers\.\d+",
    "all": "all-linear",
}


NONE: dict[str, Any] = {"r": 2, "target_modules": ["out_proj"]}  # PEFT wants a target besides


def lora(targets: Any = PROJECTIONS, **options: Any) -> LoraConfig:
    """Adapters that change what the model says: PEFT's own begin at zero."""
    return LoraConfig(r=2, lora_alpha=3, target_modules=targets, init_lora_weights=False, **options)


def adapted(targets: Any = PROJECTIONS, dtype: torch.dtype = torch.float64, **model: Any) -> Any:
    torch.manual_seed(0)  # where PEFT draws from
    return get_peft_model(small_model(dtype=dtype, **model), lora(targets)).eval()


def merged(model: Any) -> LanguageModel:
    whole: LanguageModel = copy.deepcopy(model).merge_and_unload()
    return whole


def continued(model: Any, ids: Tensor, prompt: int) -> Tensor:
    """The logits of a prefill and of steps after it, (B, L, V)."""
    first, state = model.prefill(ids[:, :prompt])
    steps = []
    for t in range(prompt, ids.shape[1]):
        y, state = model.step(ids[:, t], state)
        steps.append(y)
    return torch.cat([first, torch.stack(steps, dim=1)], dim=1)


def layers_of(model: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """The adapters by the names that their layers have in the model."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name.removeprefix("base_model.model."), module


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_the_merged_weights(name: str) -> None:
    """By the definition, W + s·B·A: that of A is s·Bᵀ·dW, that of B is s·dW·Aᵀ."""
    model = adapted([*PROJECTIONS, "embedding", "head"], **MODELS[name]).train()
    whole, ids = merged(model).train().requires_grad_(True), tokens(2, 13)
    loss, expected = (m(ids, targets=ids.roll(-1, 1)) for m in (model, whole))
    assert_close(loss, expected, 1e-12)
    loss.backward()
    expected.backward()
    found = dict(layers_of(model))
    assert "embedding" in found
    for layer, adapter in found.items():
        weight = whole.get_submodule(layer).weight.grad
        assert isinstance(weight, Tensor)
        if isinstance(adapter, Embedding):
            weight = weight.t()
            a, b = adapter.lora_embedding_A["default"], adapter.lora_embedding_B["default"]
        else:
            a, b = adapter.lora_A["default"].weight, adapter.lora_B["default"].weight
        for got, wanted in ((a, b.t() @ weight), (b, weight @ a.t())):
            assert got.grad is not None, layer
            assert_close(got.grad, 1.5 * wanted, 1e-9)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("name", ["order 3", "as StripedHyena", "hyena-mr"])
@torch.no_grad()
def test_merged_is_unmerged_in_every_pass(name: str, targets: str) -> None:
    if targets == "filters" and name == "hyena-mr":
        pytest.skip("a filter of taps has no layers")
    settings = MODELS[name]
    model, base, ids = adapted(TARGETS[targets], **settings), small_model(**settings), tokens(2, 13)
    whole = merged(model)
    expected = whole(ids)
    assert relative_error(base(ids), expected) > 1e-3
    assert_close(model(ids), expected, 1e-12)
    assert_close(model.token_losses(ids, ids), whole.token_losses(ids, ids), 1e-12)
    for each in (model, whole):
        assert_close(continued(each, ids, 5), expected, 1e-10)
    model.merge_adapter()
    assert_close(continued(model, ids, 5), expected, 1e-10)
    model.unmerge_adapter()
    assert_close(continued(model, ids, 5), expected, 1e-10)
    assert type(whole.blocks[0].mixer.in_proj) is nn.Linear  # type: ignore[union-attr]


def test_text_is_that_of_the_merged_model() -> None:
    model = adapted([*PROJECTIONS, "embedding"])
    options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.0}
    prompts = [tokens(3).tolist(), tokens(7, seed=1).tolist()]
    expected = [row.tokens for row in merged(model).generate(prompts, **options)]
    assert [row.tokens for row in model.generate(prompts, **options)] == expected
    assert [row.tokens for row in generate(model, prompts, **options)] == expected
    with model.disable_adapter():
        found = [row.tokens for row in model.generate(prompts, **options)]
    assert found == [row.tokens for row in small_model().generate(prompts, **options)] != expected


@torch.no_grad()
def test_an_adapter_that_is_switched_off_counts_no_longer() -> None:
    """In a state of generation at the next step; the prompt is read by the adapters."""
    model, base, ids = adapted(), small_model(), tokens(2, 9)
    _, state = model.prefill(ids[:, :8])
    _, before = model.prefill(ids[:, :8])
    with model.disable_adapter():
        assert_close(model(ids), base(ids), 1e-12)
        found, _ = model.step(ids[:, 8], state)
    expected, _ = base.step(ids[:, 8], before)
    assert_close(found, expected, 1e-12)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("explicit", ["filter.taps.weight"]),
        ("order 3", ["short_conv.weight", "in_proj.weight"]),
        ("mamba2", ["short_conv.weight"]),
    ],
)
def test_adapters_of_parameters_count_in_every_pass(name: str, parameters: list[str]) -> None:
    base, ids = small_model(**MODELS[name]), tokens(2, 13)
    torch.manual_seed(0)
    config = lora([], target_parameters=parameters)
    model: Any = get_peft_model(copy.deepcopy(base), config).eval()
    model(ids, targets=ids).backward()
    for parameter in model.parameters():
        assert not parameter.requires_grad or parameter.grad.any()
    with torch.no_grad():
        expected = merged(model)(ids)
        assert relative_error(base(ids), expected) > 1e-3
        for _ in range(2):  # the second time from what is kept
            assert_close(model(ids), expected, 1e-12)
            assert_close(continued(model, ids, 5), expected, 1e-10)
            with model.disable_adapter():
                assert_close(model(ids), base(ids), 1e-12)
                assert_close(continued(model, ids, 5), base(ids), 1e-10)


@pytest.mark.usefixtures("short_rows_go_by_groups")
@pytest.mark.parametrize("options", [{}, PACKED], ids=["one document", "documents"])
@pytest.mark.parametrize("targets", TARGETS)
def test_recomputed_blocks_give_the_same_gradients(
    targets: str, options: dict[str, Any], in_pieces: list[None]
) -> None:
    """Blocks with adapters in their filters alone go back in pieces, others whole."""
    torch.manual_seed(0)
    model: Any = inject_adapter_in_model(lora(TARGETS[targets]), small_model())
    assert_same(model, **options)
    assert len(in_pieces) == (len(model.blocks) if targets == "filters" else 0)


@torch.no_grad()
def test_long_inputs_go_in_pieces_around_adapters() -> None:
    model, ids = adapted("all-linear"), tokens(2, L)
    expected = model(ids)
    model.base_model.model.working_memory = 0
    assert_close(model(ids), expected, 1e-12)


@pytest.mark.parametrize("tied", [True, False])
def test_a_narrow_model_under_wide_adapters(tied: bool) -> None:
    """PEFT keeps adapters in float32 beside weights in bfloat16."""
    model = adapted([*PROJECTIONS, "embedding", "head"], torch.bfloat16, mixers="hyena", tied=tied)
    exact, ids = copy.deepcopy(model).double(), tokens(2, 13)
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in found.values()} == {torch.float32}
    with torch.no_grad():
        assert relative_error(model(ids), exact(ids)) < 0.1
        assert relative_error(continued(model, ids, 5), exact(ids)) < 0.1
    model.train()(ids, targets=ids.roll(-1, 1)).backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in found.values())


@pytest.mark.parametrize(
    "config", [lora(["linear"]), lora(modules_to_save=["label_head"])], ids=["adapter", "whole"]
)
def test_a_head_for_labels_may_be_trained(config: LoraConfig) -> None:
    labels = Labels("classification", ("a", "b"))
    base, ids, lengths = small_model("hyena"), tokens(2, 9), torch.tensor([9, 6])
    base.label_head = LabelHead(12, labels, dtype=torch.float64)
    nn.init.normal_(base.label_head.linear.weight)
    torch.manual_seed(0)
    model: Any = get_peft_model(base, copy.deepcopy(config)).eval()
    inner = model.get_base_model()
    found = label_outputs(inner, ids, lengths)
    found.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad.any(), name
    assert sum("label_head" in n for n, p in model.named_parameters() if p.requires_grad) == 2
    assert_close(label_outputs(merged(model), ids, lengths), found.detach(), 1e-12)


def test_how_many_numbers_are_trained() -> None:
    model = adapted(mixers="hyena", order=2)
    D, H, r = 12, 20, 2
    per_block = r * ((D + 3 * D) + (D + D) + (D + H) + (H + D))
    trained, of_all = model.get_nb_trainable_parameters()
    assert (trained, of_all) == (
        3 * per_block,
        3 * per_block + small_model(order=2).parameter_count(),
    )
    model.train()(tokens(2, 9), targets=tokens(2, 9)).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == ("lora_" in name), name


def test_adapters_are_saved_alone_and_loaded_again(tmp_path: Path) -> None:
    model, ids = adapted([*PROJECTIONS, "embedding"]), tokens(2, 9)
    model.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors", ".md"}
    again: Any = PeftModel.from_pretrained(small_model(), tmp_path)
    with torch.no_grad():
        assert torch.equal(again(ids), model(ids))
    assert not any(p.requires_grad for p in again.parameters())
    again.add_adapter("other", lora())
    again.set_adapter("other")
    with torch.no_grad():
        assert relative_error(again(ids), model(ids)) > 1e-3
        again.set_adapter("default")
        assert torch.equal(again(ids), model(ids))


def test_a_model_is_saved_when_its_adapters_are_merged(tmp_path: Path) -> None:
    model, ids = adapted(), tokens(2, 9)
    with pytest.raises(ValueError, match="merge adapters first, as by merge_and_unload"):
        model.get_base_model().save(tmp_path / "m")
    with pytest.raises(TypeError, match=r"got .*; pass its get_base_model\(\), which has the ad"):
        hyena.model.save(model, tmp_path / "m")
    whole = model.merge_and_unload()
    whole.save(tmp_path / "m")
    with torch.no_grad():
        assert torch.equal(hyena.load(tmp_path / "m")(ids), whole(ids))


def test_without_targets_peft_asks_for_them() -> None:
    with pytest.raises(ValueError, match="Please specify `target_modules` or `target_parameters`"):
        get_peft_model(small_model(), LoraConfig())


@pytest.mark.parametrize("target", ["short_conv", "filter", "norm1", "mlp"])
def test_what_peft_has_no_adapter_for_it_refuses(target: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)Target module .* is not supported"):
        get_peft_model(small_model(), lora([target]))


@pytest.mark.parametrize("name", ["order 3", "order 2", "hyena-li"])
def test_the_skip_of_a_filter_has_no_adapter_but_trains_with_the_whole(name: str) -> None:
    base, ids = small_model(**MODELS[name]), tokens(2, 9)
    config = lora([], target_parameters=["filter.skip"])
    with pytest.raises(TypeError, match=r"replaced by a ParamWrapper, .*modules_to_save=\[.filter"):
        get_peft_model(copy.deepcopy(base), config)(ids)
    whole: Any = get_peft_model(copy.deepcopy(base), LoraConfig(modules_to_save=["filter"], **NONE))
    whole(ids, targets=ids).backward()
    skips = [p for n, p in whole.named_parameters() if "modules_to_save" in n and "skip" in n]
    assert len(skips) == 3
    with torch.no_grad():
        for skip in skips:
            assert skip.grad.any()
            skip.add_(1.0)
        expected = merged(whole)(ids)
        assert relative_error(base(ids), expected) > 1e-3
        assert_close(whole(ids), expected, 1e-12)
        assert_close(continued(whole, ids, 5), expected, 1e-10)


def test_an_adapter_for_each_row_is_refused_on_the_tied_embedding() -> None:
    """Whose rows are the head's, one for all rows of a batch."""
    model, ids = adapted([*PROJECTIONS, "embedding"]), tokens(2, 9)
    model.add_adapter("other", lora([*PROJECTIONS, "embedding"]))
    names = ["default", "other"]
    with pytest.raises(ValueError, match="Length of `adapter_names` should be the same"):
        model(ids, adapter_names=names)


@torch.no_grad()
def test_an_adapter_for_each_row_on_other_layers() -> None:
    model, ids = adapted(), tokens(2, 9)
    model.add_adapter("other", lora())
    expected = []
    for row, name in enumerate(["default", "other"]):
        model.set_adapter(name)
        expected.append(model(ids)[row])
    assert_close(model(ids, adapter_names=["default", "other"]), torch.stack(expected), 1e-12)
