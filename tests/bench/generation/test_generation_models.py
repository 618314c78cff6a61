"""Whole models that generate."""

from dataclasses import replace

import pytest
import torch

from hyena.bench import memory
from hyena.bench.generation import weights
from hyena.bench.generation.cases import QUANTIZED, READS, Case
from hyena.bench.generation.models import config_of, need, random_cache, read_bytes
from hyena.bench.generation.run import measure
from hyena.model import LanguageModel, ModelState

MODELS = Case("model", ("hyena", "distilled", "attention"), 3, 30, 70, 8, 2, repeats=1)
CONTENDERS = ("hyena", "hyena_bf16", *READS)
WEIGHTS = replace(MODELS, kind="weights", contenders=CONTENDERS, batch=1)


def test_models_are_checked_timed_and_told_of() -> None:
    found = measure(MODELS, seconds=1e-6)
    assert "failed" not in found
    assert (
        set(found["times"]) == set(found["errors"]) == set(found["facts"]) == set(MODELS.contenders)
    )
    assert max(found["errors"].values()) < 1e-5
    assert found["times"]["hyena"]["tokens"] == 70
    assert found["times"]["attention"]["tokens"] == 32
    assert found["held"]["attention"] == 2 * 2 * 3 * 8 * 100 * 4


def test_weights_are_read_beside() -> None:
    found = measure(WEIGHTS, seconds=1e-6)
    assert "failed" not in found
    assert set(found["times"]) == set(CONTENDERS)
    assert 1e-5 < found["errors"]["hyena_bf16"] < 5e-2
    facts = found["facts"]
    assert facts["hyena"]["read_bytes"] == 2 * facts["hyena_bf16"]["read_bytes"]
    assert set(facts["hyena"]) == {"parameters", "read_bytes"}


def test_weights_of_fewer_bits_are_read_and_checked_against_those_of_more() -> None:
    found = measure(replace(MODELS, kind="quantized", contenders=QUANTIZED), seconds=1e-6)
    assert "failed" not in found
    assert set(found["times"]) == set(QUANTIZED)
    of = {name: facts["read_bytes"] for name, facts in found["facts"].items()}
    assert of["hyena_int8"] == of["hyena_int8_dynamic"] < of["hyena"]
    numbers, rows, least = 12 * 8 * 8, 3 * 8 + 8 + 32 + 8, 1e-4
    assert of["hyena"] - of["hyena_int8"] == 2 * (3 * numbers - (4 + 1) * rows)
    errors = found["errors"]
    assert least < errors["hyena_int8"] < errors["hyena_int8_dynamic"] < 1e-1


def test_without_torchao_its_weights_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    found = measure(replace(MODELS, kind="quantized", contenders=QUANTIZED), seconds=1e-6)
    assert set(found["times"]) == {"hyena", "hyena_bf16"}
    line = "needs the package torchao: pip install 'hyena[quantization]'"
    assert found["skipped"] == {"hyena_int8": line, "hyena_int8_dynamic": line}


def test_a_model_that_is_wrong_is_not_timed_and_a_baseline_left_out_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    right = LanguageModel.step

    def step(self: LanguageModel, ids: torch.Tensor, state: ModelState) -> object:
        logits, state = right(self, ids, state)
        if self.config.mixers != wrong:
            return logits, state
        return logits.roll(1), state

    monkeypatch.setattr(LanguageModel, "step", step)
    wrong = "attention"
    found = measure(replace(MODELS, contenders=("hyena", "attention")), seconds=1e-6)
    assert set(found["times"]) == {"hyena"}
    assert found["skipped"]["attention"].startswith("logits differ from float64 by ")
    found = measure(replace(MODELS, contenders=("attention",)), seconds=1.0)
    assert "attention: logits differ from float64 by" in found["failed"]
    assert "times" not in found
    wrong = "hyena"
    found = measure(MODELS, seconds=1.0)
    assert "hyena: logits differ from float64 by" in found["failed"]
    assert "times" not in found


def test_what_may_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1 << 30)
    large = replace(MODELS, kind="model", context=100_000_000)
    monkeypatch.setattr(
        "hyena.bench.generation.run.need", lambda row, name: 2.0**31 if name == "attention" else 0.0
    )
    found = measure(replace(MODELS, contenders=("hyena", "attention")), seconds=1e-6)
    assert found["skipped"] == {"attention": "may need 2.0 GiB, and 1.0 GiB are free"}
    assert set(found["times"]) == {"hyena"}
    assert need(large, "attention") > 2 * 2 * 3 * 8 * 1e8 * 4
    assert need(replace(large, batch=1), "attention") < need(large, "attention")
    assert need(large, "hyena") == need(replace(large, batch=1), "hyena")
    assert need(large, "read_sum") == 0


def test_the_weights_that_a_token_reads_are_all_but_the_filters() -> None:
    model = LanguageModel(config_of("hyena", MODELS))
    filters = sum(p.numel() for block in model.blocks for p in block.mixer.filter.parameters())
    assert filters > 0
    assert read_bytes(model) == 4 * (model.parameter_count() - filters)


def test_the_preset_is_as_long_as_it_has_to_be() -> None:
    row = Case("model", ("hyena",), 1, 5000, preset="125M")
    config = config_of("attention", row)
    assert (config.width, config.layers, config.max_length) == (768, 12, 5256)
    assert config.mixers == "attention"
    assert config_of("distilled", row).filter.kind == "s4d"


def test_a_random_cache_goes_on_like_one_of_a_prefill() -> None:
    model = LanguageModel(config_of("attention", MODELS)).eval()
    ids = torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        state = random_cache(model, 3, 30, 70)
        _, like = model.prefill(ids[:, None].expand(3, 30), future=70)
        logits, state = model.step(ids, state)
    assert state.length == 31
    assert logits.isfinite().all()
    shapes = [{k: v.shape for k, v in layer.tensors().items()} for layer in state.layers]
    with torch.no_grad():
        _, like = model.step(ids, like)
    assert shapes == [{k: v.shape for k, v in layer.tensors().items()} for layer in like.layers]


def test_an_unknown_contender_is_an_error() -> None:
    for name, message in (
        ("mamba", "but not mamba"),
        ("read_all", "but not read_all"),
        ("hyena_int2", "but not int2"),
    ):
        found = measure(replace(MODELS, contenders=(name,)), seconds=1.0)
        assert message in found["failed"]
