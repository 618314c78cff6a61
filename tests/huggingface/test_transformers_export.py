"""Exported folders run where hyena is not installed, and say what the models said here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_transformers import SIZES, language_model, padded, small, tokens
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer
from hyena.huggingface import (
    HyenaConfig,
    HyenaForCausalLM,
    HyenaForMaskedLM,
    HyenaForSequenceClassification,
    export,
)
from hyena.model.config import StripedConfig
from hyena.model.label_head import LabelHead, Labels

CAUSAL: dict[str, dict[str, Any]] = {
    "single": {"dtype": torch.float32},
    "table": {
        "order": 3,
        "filter": hyena.FilterConfig(
            emb_dim=5, width=6, train_encoding=True, normalized=True, shift=0.1, train_decay=True
        ),
    },
    "explicit": {
        **{"tied": False, "norm": "rms", "mlp": "gated", "activation": "gelu,silu"},
        "filter": hyena.FilterConfig(kind="explicit", taps=5, groups=3),
    },
    "mixed": {
        **{"mixers": "hyena,attention", "kv_heads": 1},
        **{"rotary_base": 500.0, "rotary_scale": 2.0},
    },
    "stripes": {
        **{"mixers": "hyena-se,hyena-mr,hyena-li,attention", "layers": 4},
        **{"in_proj_bias": False, "striped": StripedConfig(groups=3, modes=4)},
    },
    "longer": {
        **{"max_length": 8, "length_policy": "extrapolate", "short_width": 4},
        "filter": hyena.FilterConfig(kind="modal", modes=4, groups=2),
    },
    "stretched": {"max_length": 8, "length_policy": "interpolate"},
}
SENTENCES = [tokens(11, seed=1), tokens(5, seed=2)]
PROGRAM = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hyena":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
from pathlib import Path
import torch
import transformers
from safetensors.torch import load_file, save_file

root = Path(sys.argv[1])
given, found = load_file(root / "given.safetensors"), {}
whole, ids, mask = given["whole"], given["ids"], given["mask"]
for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    kind = folder.name.partition("-")[2]
    auto = getattr(transformers, f"AutoModelFor{kind}")
    model, info = auto.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        found[f"{folder.name} whole"] = model(whole).logits
        if "stretched" not in folder.name:
            found[f"{folder.name} padded"] = model(ids, attention_mask=mask).logits
    if kind != "CausalLM" or "stretched" in folder.name:
        continue
    options = {"attention_mask": mask, "max_new_tokens": 9, "do_sample": False}
    found[f"{folder.name} greedy"] = model.generate(ids, **options)
    found[f"{folder.name} beams"] = model.generate(ids, num_beams=3, **options).contiguous()
    try:
        model.generate(ids, **{**options, "attention_mask": mask.flip(1)})
    except ValueError as error:
        (root / f"{folder.name}.txt").write_text(str(error))
    model.train()
    model.gradient_checkpointing = True
    loss = model(whole, labels=whole).loss
    loss.backward()
    found[f"{folder.name} loss"] = loss.detach()
    found[f"{folder.name} gradient"] = model.model.blocks[0].mixer.in_proj.weight.grad
save_file(found, root / "found.safetensors")
"""


def both_directions() -> HyenaForMaskedLM:
    sizes = {**SIZES, "filter": vars(SIZES["filter"])}
    return HyenaForMaskedLM(HyenaConfig(**sizes, bidirectional=True)).double().eval()


def labelled(pool: Any, begin: bool) -> HyenaForSequenceClassification:
    model = language_model(dtype=torch.float64)
    labels = Labels("classification", ("low", "middle", "high"), pool, begin)
    model.label_head = LabelHead(12, labels, dtype=torch.float64)
    return HyenaForSequenceClassification.from_language_model(model)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """By the name of their folder, after which comes the Auto class that opens it."""
    causal = {
        f"{name}-CausalLM": small(**{"dtype": torch.float64, **changes})
        for name, changes in CAUSAL.items()
    }
    return {
        **causal,
        "both-MaskedLM": both_directions(),
        "last-SequenceClassification": labelled("last", False),
        "mean-SequenceClassification": labelled("mean", True),
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def found(
    models: dict[str, Any], root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Tensor]:
    """What all of them say in one process without hyena."""
    for name, model in models.items():
        export(model, root / name)
    ids, mask = padded(SENTENCES, "left")
    save_file({"whole": tokens(2, 13), "ids": ids, "mask": mask}, root / "given.safetensors")
    modules = str(tmp_path_factory.mktemp("modules"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_MODULES_CACHE": modules, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    return load_file(root / "found.safetensors")


def test_all_say_what_they_said_here(models: dict[str, Any], found: dict[str, Tensor]) -> None:
    ids, mask = padded(SENTENCES, "left")
    for name, model in models.items():
        bound = 1e-5 if name.startswith("single") else 1e-9
        close = {"atol": bound, "rtol": bound}
        whole = tokens(2, 13)
        with torch.no_grad():
            expected = model(whole).logits
            torch.testing.assert_close(found[f"{name} whole"], expected, **close, msg=name)
            if "stretched" in name:
                continue
            expected, real = model(ids, attention_mask=mask).logits, mask == 1
        said = found[f"{name} padded"]
        if expected.dim() == 3:
            said, expected = said[real], expected[real]
        torch.testing.assert_close(said, expected, **close, msg=name)
        if not isinstance(model, HyenaForCausalLM):
            continue
        options = {"attention_mask": mask, "max_new_tokens": 9, "do_sample": False}
        assert torch.equal(found[f"{name} greedy"], model.generate(ids, **options)), name
        assert torch.equal(found[f"{name} beams"], model.generate(ids, num_beams=3, **options)), (
            name
        )
        loss = model(whole, labels=whole).loss
        torch.testing.assert_close(found[f"{name} loss"], loss.detach(), **close, msg=name)
        weight = model.model.blocks[0].mixer.in_proj.weight
        (gradient,) = torch.autograd.grad(loss, weight)
        torch.testing.assert_close(found[f"{name} gradient"], gradient, **close, msg=name)


def test_prompts_padded_on_the_right_are_refused_as_here(
    models: dict[str, Any], found: dict[str, Tensor], root: Path
) -> None:
    ids, mask = padded(SENTENCES, "right")
    for name, model in models.items():
        if isinstance(model, HyenaForCausalLM) and "stretched" not in name:
            with pytest.raises(ValueError, match="expected padding on the left only") as here:
                model.generate(ids, attention_mask=mask, max_new_tokens=9)
            said = (root / f"{name}.txt").read_text()
            assert str(here.value).endswith(f".prefill: {said}"), name


def test_with_hyena_the_folder_is_a_model_of_the_package(tmp_path: Path) -> None:
    model = small()
    export(model, tmp_path)
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path)) is HyenaForCausalLM
    trusted = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=True)
    assert type(trusted) is HyenaForCausalLM
    assert torch.equal(hyena.load(tmp_path).embedding.weight, model.model.embedding.weight)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["auto_map"]["AutoModelForCausalLM"] == "modeling_hyena.HyenaForCausalLM"


def test_the_tokenizer_goes_with_the_model(tmp_path: Path) -> None:
    tokenizer = load_tokenizer("bytes")
    model = small(vocab_size=257, max_length=64)
    export(model, tmp_path, tokenizer=tokenizer)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("ab")["input_ids"] == [256, *b"ab"]
    assert theirs.model_max_length == 64
    assert load_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.generation_config.eos_token_id == again.config.eos_token_id == 256


def test_hyena_convert_writes_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = language_model(vocab_size=257)
    ours.save(tmp_path / "ours")
    load_tokenizer("bytes").save(tmp_path / "ours")
    theirs, back = str(tmp_path / "theirs"), str(tmp_path / "back")
    assert main(["convert", str(tmp_path / "ours"), theirs, "--to", "huggingface"]) == 0
    assert main(["convert", theirs, back, "--dtype", "bfloat16"]) == 0
    said = capsys.readouterr()
    assert "as files of huggingface" in said.out
    assert "without a tokenizer" not in said.err
    assert (Path(theirs) / "modeling_hyena.py").is_file()
    model = AutoModelForCausalLM.from_pretrained(theirs)
    assert torch.equal(model.model.embedding.weight, ours.embedding.weight)
    assert hyena.load(back).embedding.weight.dtype == torch.bfloat16
    for folder in (theirs, back):
        assert load_tokenizer(folder).fingerprint == load_tokenizer("bytes").fingerprint
    options = ["--prompt", "to be", "--max_new_tokens", "5", "--temperature", "0"]
    assert main(["generate", theirs, *options]) == 0
    text = capsys.readouterr().out
    assert main(["generate", str(tmp_path / "ours"), *options]) == 0
    assert capsys.readouterr().out == text


def test_hyena_convert_takes_a_head_for_labels_along(tmp_path: Path) -> None:
    model = language_model()
    model.label_head = LabelHead(12, Labels("classification", ("a", "b")))
    model.save(tmp_path / "ours")
    words = ["convert", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--to=huggingface"]
    assert main(words) == 0
    theirs = HyenaForSequenceClassification.from_pretrained(tmp_path / "theirs")
    assert torch.equal(theirs.score.linear.weight, model.label_head.linear.weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixers": "hyena,rwkv"}, "the code for machines without hyena has no rwkv layers"),
        (
            {"filter": hyena.FilterConfig(kind="s4d", state=4)},
            "has no hyena with s4d filters layers; model.save_pretrained writes a folder",
        ),
        ({}, "tokenizer bytes has 257 ids, but the model 29; give the one that it was trained"),
    ],
    ids=["mixer", "filter", "tokenizer"],
)
def test_what_cannot_be_exported_is_one_line(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        export(small(**changes), tmp_path / "x", tokenizer=load_tokenizer("bytes"))
    assert not (tmp_path / "x").exists()
