"""Adapters of PEFT on a Hyena model of transformers: trained, merged, saved, and in `generate`."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from small_transformers import language_model, small, tokens

import hyena
from hyena.huggingface import HyenaForSequenceClassification
from hyena.model import PROJECTIONS

LORA: dict[str, Any] = {"r": 2, "target_modules": PROJECTIONS, "init_lora_weights": False}


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("task", [None, "CAUSAL_LM"])
def test_adapters_train_and_count_as_merged_ones_do(task: str | None, tmp_path: Path) -> None:
    base, ids = small("hyena,attention", dtype=torch.float64), tokens(2, 9)
    model: Any = get_peft_model(copy.deepcopy(base), LoraConfig(task_type=task, **LORA)).eval()
    found = model(input_ids=ids, labels=ids)
    found.loss.backward()
    for name, parameter in model.named_parameters():
        assert ("lora_" in name) == parameter.requires_grad, name
        assert not parameter.requires_grad or parameter.grad.any(), name
    merged = copy.deepcopy(model).merge_and_unload()
    options: dict[str, Any] = {"input_ids": ids, "max_new_tokens": 8, "do_sample": False}
    with torch.no_grad():
        assert_close(merged(input_ids=ids).logits, found.logits.detach(), 1e-12)
        assert torch.equal(model.generate(**options), merged.generate(**options))
        model.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_a_model_with_adapters_is_refused_where_they_would_be_lost(tmp_path: Path) -> None:
    adapted: Any = get_peft_model(small(), LoraConfig(**LORA))
    inside = adapted.get_base_model()
    with pytest.raises(ValueError, match="merge adapters first, as by merge_and_unload") as problem:
        inside.save_pretrained(tmp_path / "whole")
    assert "\n" not in str(problem.value)
    assert not list(tmp_path.iterdir())
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="holds an adapter of PEFT and no model; put it on its"):
        hyena.load(tmp_path / "adapter")
    inside.config.save_pretrained(tmp_path / "whole")  # as other programs might write it
    save_file(inside.state_dict(), tmp_path / "whole" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="where it was saved, merge adapters first, as by"):
        hyena.load(tmp_path / "whole")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    assert hyena.load(tmp_path / "merged")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
@pytest.mark.parametrize("pool", ["last", "mean"])
def test_a_head_for_labels_trains_beside_adapters(pool: str, tmp_path: Path) -> None:
    base = HyenaForSequenceClassification.from_language_model(
        language_model(dtype=torch.float64), num_labels=3, pool=pool
    )
    ids, labels = tokens(2, 9), torch.tensor([2, 0])
    with torch.no_grad():
        expected = base(ids).logits
    config = LoraConfig(task_type="SEQ_CLS", **{**LORA, "init_lora_weights": True})
    model: Any = get_peft_model(copy.deepcopy(base), config)
    assert_close(model(input_ids=ids).logits.detach(), expected, 1e-12)  # with adapters of 0
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(input_ids=ids, labels=labels).loss.backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"lora_", "score"} <= {part for part in ("lora_", "score") if part in str(trained)}
    optimizer.step()
    model.eval().save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    with torch.no_grad():
        found = model(input_ids=ids).logits
        assert not torch.equal(found, expected)
        assert torch.equal(again(input_ids=ids).logits, found)
