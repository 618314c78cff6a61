"""What the code of exported folders does beyond a forward pass, and what export refuses."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_transformers import language_model, padded, small, tokens
from torch.nn import functional as F

from hyena.data import load_tokenizer
from hyena.huggingface import (
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    export,
    tokenizer_as_transformers,
)
from hyena.model import PROJECTIONS

CODE: Any = import_module("hyena.huggingface.exported.modeling_hyena")


@torch.no_grad()
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("size", "multiple"), [(31, None), (40, None), (10, None), (None, 64)])
def test_another_vocabulary_is_saved_and_read(
    size: int | None, multiple: int | None, tied: bool, tmp_path: Path
) -> None:
    ours, ids = small(tied=tied), tokens(2, 9) % 10
    export(ours, tmp_path / "exported")
    model = CODE.HyenaForCausalLM.from_pretrained(tmp_path / "exported")
    for one in (ours, model):
        one.resize_token_embeddings(size, pad_to_multiple_of=multiple)
    expected = ours(ids).logits
    torch.testing.assert_close(model(ids).logits, expected, atol=1e-5, rtol=1e-5)
    model.save_pretrained(tmp_path / "again")
    for kind in (CODE.HyenaForCausalLM, HyenaForCausalLM):
        again, info = kind.from_pretrained(tmp_path / "again", output_loading_info=True)
        assert not any(info.values())
        torch.testing.assert_close(again(ids).logits, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_kinds_of_tokens_are_passed_over(tmp_path: Path) -> None:
    ours, ids = small(), tokens(2, 5)
    export(ours, tmp_path)
    for model in (ours, CODE.HyenaForCausalLM.from_pretrained(tmp_path)):
        kinds = torch.zeros_like(ids)
        assert torch.equal(model(ids, token_type_ids=kinds).logits, model(ids).logits)
        options = {"max_new_tokens": 4, "do_sample": False}
        found = model.generate(ids, token_type_ids=kinds, **options)
        assert torch.equal(found, model.generate(ids, **options))
    for name in ("HyenaModel", "HyenaForSequenceClassification"):
        model = getattr(CODE, name).from_pretrained(tmp_path)
        assert torch.equal(model(ids, token_type_ids=kinds)[0], model(ids)[0])


def test_ids_outside_the_vocabulary_are_one_line(tmp_path: Path) -> None:
    export(small(), tmp_path)
    model = CODE.HyenaForCausalLM.from_pretrained(tmp_path)
    for wrong in (29, -1):
        with pytest.raises(ValueError, match=f"token id {wrong} is outside the vocabulary of 29"):
            model(torch.tensor([[1, wrong]]))


@torch.no_grad()
def test_padding_is_told_by_its_token_as_here(tmp_path: Path) -> None:
    ours = HyenaForSequenceClassification.from_language_model(
        language_model(), num_labels=3, pool="mean", begin=True, pad_token_id=0, bos_token_id=0
    )
    export(ours, tmp_path)
    model = CODE.HyenaForSequenceClassification.from_pretrained(tmp_path)
    for side in ("left", "right"):
        rows = [F.pad(tokens(n).clamp(min=1), (1, 0)) for n in (9, 4)]
        batch, mask = padded(rows, side)
        batch[mask == 0] = 0
        torch.testing.assert_close(model(batch).logits, ours(batch).logits, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="has no token to read; leave it out"):
        model(tokens(2, 5), attention_mask=torch.tensor([[1] * 5, [1, 0, 0, 0, 0]]))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_what_is_no_model_and_no_tokenizer_of_ours_is_one_line(tmp_path: Path) -> None:
    model, file = small(vocab_size=257), tmp_path / "file"
    file.write_text("mine")
    adapted: Any = get_peft_model(small(), LoraConfig(target_modules=PROJECTIONS))
    theirs: Any = tokenizer_as_transformers(load_tokenizer("bytes"))
    named: Any = "bytes"
    out = tmp_path / "out"
    for call, kind, message in (
        (
            lambda: export(language_model(), out),  # type: ignore[arg-type]
            TypeError,
            "export: expected a model of hyena.huggingface, got LanguageModel; HyenaForCausalLM."
            "from_language_model makes one",
        ),
        (
            lambda: export(adapted, out),
            TypeError,
            "got PeftModel; merge its adapters first: export(model.merge_and_unload(), ...)",
        ),
        (
            lambda: export(adapted.get_base_model(), out),
            ValueError,
            "merge adapters first, as by merge_and_unload()",
        ),
        (
            lambda: export(model, out, tokenizer=theirs),
            TypeError,
            "leave it out, and write it beside the model by its own save_pretrained",
        ),
        (
            lambda: export(model, out, tokenizer=named),
            ValueError,
            "expected a tokenizer of hyena.data.load_tokenizer, got 'bytes'",
        ),
        (
            lambda: export(model, file, tokenizer=load_tokenizer("bytes")),
            FileExistsError,
            "file is a file, and a model is a folder; give another name",
        ),
    ):
        with pytest.raises(kind, match=re.escape(message)) as problem:
            call()
        assert "\n" not in str(problem.value)
    assert not out.exists()
    assert file.read_text() == "mine"
