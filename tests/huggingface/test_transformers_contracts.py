"""What transformers' own tests ask of every model, as far as no other file here has it; the table
in docs/huggingface.md lists all of it."""

import copy
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_transformers import SIZES, small, tokens
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationConfig,
)

import hyena
from hyena.huggingface import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    HyenaModel,
)

CLASSES = [HyenaModel, HyenaForCausalLM, HyenaForMaskedLM, HyenaForSequenceClassification]


def new(kind: Any, **changes: Any) -> Any:
    both = kind is HyenaForMaskedLM
    sizes = {**SIZES, "filter": vars(SIZES["filter"]), "bidirectional": both, **changes}
    return kind(HyenaConfig(**sizes)).eval()


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_is_of_one_kind(kind: Any, tmp_path: Path) -> None:
    model, ids = new(kind), tokens(2, 9)
    assert next(iter(inspect.signature(kind.forward).parameters.values())).name == "self"
    assert list(inspect.signature(kind.forward).parameters)[1] == kind.main_input_name
    assert kind.can_generate() is (kind is HyenaForCausalLM)
    assert model.config_class is HyenaConfig
    with torch.no_grad():
        first = model(ids)[0]
        assert torch.equal(model(ids)[0], first)
        assert torch.equal(copy.deepcopy(model)(ids)[0], first)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    again = new(kind)
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(again(ids)[0], first)
    for name, value in vars(model.model).items():
        assert not isinstance(value, torch.Tensor), name
    # Hidden states are part of what is differentiated.
    output = model(ids, output_hidden_states=True)
    output.hidden_states[0].retain_grad()
    output[0].sum().backward()
    assert output.hidden_states[0].grad.abs().sum() > 0
    assert model(inputs_embeds=output.hidden_states[0].detach())[0].shape == first.shape


@pytest.mark.parametrize("kind", CLASSES)
def test_embeddings_are_got_and_set(kind: Any) -> None:
    model = new(kind)
    assert isinstance(model.get_input_embeddings(), nn.Embedding)
    other = nn.Embedding(32, 12)
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other
    assert model(tokens(1, 4))[0].isfinite().all()
    untied = new(kind, tied=False)
    head = untied.get_output_embeddings()
    assert isinstance(head, nn.Linear) == kind._predicts
    if head is not None:
        other = nn.Linear(12, 32, bias=False)
        untied.set_output_embeddings(other)
        expected = untied(tokens(1, 4), output_hidden_states=True)
        logits = expected.hidden_states[-1] @ other.weight[:29].T
        torch.testing.assert_close(expected.logits, logits)


def test_a_head_of_another_size_is_new_if_that_is_asked_for(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3).save_pretrained(
        tmp_path
    )
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=5)
    model = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True
    )
    assert model.score.linear.weight.shape == (5, 12)
    assert 0.01 < model.score.linear.weight.std() < 0.04
    assert not model.score.linear.bias.any()


def test_a_model_loads_under_a_default_device_and_leaves_dtypes_alone(folder: Path) -> None:
    with torch.device("cpu"):
        model = AutoModelForCausalLM.from_pretrained(folder)
    torch.set_default_device("cpu")
    try:
        other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    finally:
        torch.set_default_device(None)
    assert torch.get_default_dtype() == torch.float32
    assert (model.dtype, other.dtype) == (torch.float32, torch.float64)
    assert other.config.dtype == torch.float64


def test_a_configuration_comes_back_from_json_and_is_changed_by_arguments(folder: Path) -> None:
    config = HyenaConfig(hidden_size=24, max_length=100, filter={"width": 8}, eos_token_id=3)
    assert config.max_position_embeddings == 100
    again = HyenaConfig(**config.to_dict())
    assert again.to_dict() == config.to_dict()
    assert again.model_config() == config.model_config()
    changed = AutoConfig.from_pretrained(folder, dropout=0.25, width=20)
    assert (changed.dropout, changed.hidden_size) == (0.25, 20)
    changed.tied = False
    assert changed.tie_word_embeddings is False
    assert changed.model_config().tied is False


def test_generate_begins_with_the_token_of_its_configuration(model: HyenaForCausalLM) -> None:
    options = GenerationConfig(bos_token_id=5, max_new_tokens=6, do_sample=False)
    ids = torch.tensor([[5]])
    expected = model.generate(ids, max_new_tokens=6, do_sample=False)
    assert torch.equal(model.generate(generation_config=options), expected)
    ending = int(expected[0, 3])
    ended = model.generate(ids, max_new_tokens=6, eos_token_id=ending, pad_token_id=0)
    first = expected[0].tolist().index(ending)
    assert ended[0].tolist() == expected[0, : first + 1].tolist()


def test_generate_goes_on_from_embeddings_and_a_cache(model: HyenaForCausalLM) -> None:
    ids = tokens(1, 9)
    whole = model.generate(ids, max_new_tokens=8, do_sample=False)[:, 9:]
    embed = model.get_input_embeddings()
    options = {"max_new_tokens": 4, "do_sample": False, "return_dict_in_generate": True}
    first = model.generate(inputs_embeds=embed(ids), **options)
    assert torch.equal(first.sequences, whole[:, :4])
    given = embed(torch.cat([ids, first.sequences], dim=1))
    name = next(name for name in ("cache", "past_key_values") if name in first)
    rest = model.generate(inputs_embeds=given, **{name: first[name]}, **options)
    assert torch.equal(rest.sequences, whole[:, 4:])


@torch.no_grad()
def test_a_program_is_exported_and_compiled_whole(model: HyenaForCausalLM) -> None:
    ids, mask = tokens(2, 9), torch.ones(2, 9, dtype=torch.int64)
    mask[1, 6:] = 0
    expected = model(ids, attention_mask=mask).logits[mask == 1]
    given = {"input_ids": ids, "attention_mask": mask}
    program = torch.export.export(model, (), given).module()
    whole = torch.compile(model, backend="eager", fullgraph=True)
    for run in (program, whole):
        logits = run(**given).logits[mask == 1]
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)


def test_training_goes_through_every_parameter() -> None:
    for kind in CLASSES:
        model = new(kind).train()
        model(tokens(2, 9))[0].square().sum().backward()
        idle = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert idle == []


def test_a_model_says_what_it_is() -> None:
    model = small()
    assert re.match(r"HyenaForCausalLM\(\s+\(model\): LanguageModel", repr(model))
    assert model.num_parameters() == sum(p.numel() for p in model.parameters())
    assert model.get_memory_footprint() > 0
    assert not any(model.config._get_generation_parameters())


def test_an_older_transformers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "5.16.2")
    with pytest.raises(ImportError, match=r"needs transformers 5\.17 or newer, got 5\.16\.2: pip"):
        importlib.reload(hyena.huggingface)
