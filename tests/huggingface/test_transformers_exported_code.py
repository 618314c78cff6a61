"""What the code of exported folders does beyond a forward pass, and what export refuses."""

import math
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from comparison import assert_close
from peft import LoraConfig, get_peft_model
from small_transformers import language_model, padded, small, tokens
from torch.nn import functional as F
from transformers import DynamicCache

import hyena
from hyena.data import load_tokenizer
from hyena.huggingface import (
    HyenaForCausalLM,
    HyenaForSequenceClassification,
    export,
    tokenizer_as_transformers,
)
from hyena.interop.loading import in_dtype
from hyena.model import PROJECTIONS
from hyena.model.config import StripedConfig

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


NARROW: dict[str, dict[str, Any]] = {
    "hyena": {},
    "table": {
        "filter": hyena.FilterConfig(
            emb_dim=5, width=6, sine_freq=3.0, train_encoding=True, train_decay=True
        )
    },
    "modal": {"filter": hyena.FilterConfig(kind="modal", modes=4, groups=2)},
    "explicit": {"filter": hyena.FilterConfig(kind="explicit", taps=5)},
    "stripes": {
        **{"mixers": "hyena-se,hyena-mr,hyena-li,attention", "layers": 4},
        "striped": StripedConfig(groups=3, modes=4),
    },
}


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NARROW)
def test_filters_stay_wide_where_the_rest_is_narrow(
    name: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    ids = tokens(2, 40)
    export(small(**NARROW[name]), tmp_path / "wide")
    rounded = in_dtype(language_model(**NARROW[name]), dtype)
    export(HyenaForCausalLM.from_language_model(rounded), tmp_path / "narrow")
    for folder, options in (("narrow", {}), ("wide", {"dtype": dtype})):
        place = tmp_path / folder
        ours = HyenaForCausalLM.from_pretrained(place, **options)
        model = CODE.HyenaForCausalLM.from_pretrained(place, **options)
        kinds = {key: x.dtype for key, x in model.state_dict().items()}
        assert kinds == {key: x.dtype for key, x in ours.state_dict().items()}
        assert {dtype, torch.float32} == {*kinds.values()}
        for key, value in ours.state_dict().items():
            assert torch.equal(model.state_dict()[key], value), key
        for mine, theirs in zip(model.model.blocks, ours.model.blocks, strict=True):
            if hasattr(mine.mixer, "filter"):
                found, expected = mine.mixer.filter(40), theirs.mixer.filter(40)
                assert_close(found, expected, 1e-4)  # of bfloat16 it would be some 1e-2
        found, expected = model(ids).logits, ours(ids).logits
        assert found.dtype == dtype
        assert_close(found.double(), expected.double(), 3 * torch.finfo(dtype).eps)


@torch.no_grad()
@pytest.mark.parametrize("policy", ["error", "extrapolate"])
def test_what_is_refused_here_is_refused_there(policy: str, tmp_path: Path) -> None:
    table = hyena.FilterConfig(emb_dim=5, width=6, train_encoding=policy == "extrapolate")
    ours = small(filter=table, max_length=8, length_policy=policy)
    export(ours, tmp_path)
    model = CODE.HyenaForCausalLM.from_pretrained(tmp_path)
    ids, ones = tokens(2, 12), torch.ones(2, 5)
    few, added = ids[:, :5], torch.zeros(2, 5)
    added[0, :2] = -math.inf
    for given, message in (
        ({"input_ids": few, "attention_mask": added}, "of a mask that is added to scores give"),
        ({"input_ids": few, "attention_mask": 0 * ones}, "0 everywhere"),
        ({"input_ids": few, "attention_mask": 2 * ones}, "0 at padding, got"),
        ({"input_ids": few, "attention_mask": torch.ones(2, 6)}, r"\(2, 5\).* got \(2, 6\)"),
        ({"input_ids": ids}, "12"),
    ):
        for each in (ours, model):
            with pytest.raises(ValueError, match=message) as problem:
                each(**given)
            assert "\n" not in str(problem.value)
    for each in (ours, model):
        passes: list[int] = []
        each.register_forward_pre_hook(lambda *_, passes=passes: passes.append(1))
        with pytest.raises(ValueError, match="a prompt of 5 tokens and 5 new do not fit max"):
            each.generate(few, max_new_tokens=5, do_sample=False)
        assert not passes
        assert each.generate(few, max_new_tokens=4, do_sample=False).shape == (2, 9)


def test_caches_of_others_and_no_vocabulary_are_one_line(tmp_path: Path) -> None:
    export(small(), tmp_path)
    for kind in (CODE.HyenaForCausalLM, CODE.HyenaModel):
        model = kind.from_pretrained(tmp_path)
        with pytest.raises(
            TypeError, match="a HyenaCache, got DynamicCache; leave it out, or give"
        ):
            model(tokens(2, 5), past_key_values=DynamicCache())
    with pytest.raises(ValueError, match="expected a vocabulary of 1 token or more, got 0"):
        model.resize_token_embeddings(0)
    assert model.config.vocab_size == 29


@torch.no_grad()
def test_the_layers_alone_take_a_cache_whose_rows_are_chosen(tmp_path: Path) -> None:
    export(small("hyena,attention"), tmp_path)
    model, ids = CODE.HyenaModel.from_pretrained(tmp_path), tokens(3, 9)
    whole = model(ids, use_cache=False)
    assert whole.get(CODE.CACHE) is None
    cache = model(ids[:, :6], use_cache=True)[CODE.CACHE]
    cache.batch_repeat_interleave(2)
    cache.batch_select_indices(torch.tensor([4, 1]))
    found = model(ids[[2, 0], 6:], past_key_values=cache)
    torch.testing.assert_close(found[0], whole[0][[2, 0], 6:], atol=1e-5, rtol=1e-5)
    assert found[CODE.CACHE] is cache


@torch.no_grad()
def test_long_filters_of_modes_are_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = import_module("hyena.huggingface.exported.layers_hyena")
    taps, real = layers.ModalTaps(1, 6, 3, None), layers.RealModalTaps(1, 6, 3)
    whole = taps(50), real(50)
    monkeypatch.setattr(layers, "TERMS", 18 * 7)
    assert torch.equal(taps(50), whole[0])
    assert torch.equal(real(50), whole[1])


def test_the_model_stays_as_it_was(tmp_path: Path) -> None:
    model = small(vocab_size=257)
    model.save_pretrained(tmp_path / "plain")  # which writes down its dtype and class
    before = model.config.to_dict(), model.generation_config.to_dict()
    export(model, tmp_path, tokenizer=load_tokenizer("bytes"))
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before
    again = CODE.HyenaForCausalLM.from_pretrained(tmp_path)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(again.config, name) == getattr(again.generation_config, name) == 256


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks for it
def test_what_is_no_model_and_no_tokenizer_of_ours_is_one_line(tmp_path: Path) -> None:
    model, file = small(vocab_size=257), tmp_path / "file"
    file.write_text("mine")
    adapted: Any = get_peft_model(small(), LoraConfig(target_modules=PROJECTIONS))
    own: Any = small()
    own._hf_peft_config_loaded = True  # as add_adapter leaves it
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
            lambda: export(own, out),
            ValueError,
            "the model has adapters of its own, of which save_pretrained writes nothing else",
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
