"""The head for labels: pooling, padding, gradients, and files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import hyena
from hyena.distillation import distill
from hyena.model import FilterConfig, LanguageModel, ModelConfig
from hyena.model.hidden import hidden
from hyena.model.label_head import LabelHead, Labels, pooled
from hyena.model.label_outputs import label_outputs

CLASSES = Labels("classification", ("a", "b", "c"))
POSITIONS = Labels("token-classification", ("H", "E"))
NUMBERS = Labels("regression", ("x", "y"), means=(1.0, 2.0), deviations=(0.5, 3.0))


def build(labels: Labels, *, dtype: torch.dtype = torch.float64, **settings: Any) -> LanguageModel:
    values: dict[str, Any] = {"vocab_size": 32, "width": 8, "layers": 2, "mlp_width": 16}
    values |= {"mixers": "hyena,attention", "head_dim": 4, "max_length": 24}
    values |= {"filter": FilterConfig(emb_dim=5, width=8)}
    config = ModelConfig(**{**values, **settings})
    model = LanguageModel(config, generator=torch.Generator().manual_seed(0))
    model.label_head = LabelHead(config.width, labels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # far from uniform
        for name, parameter in model.named_parameters():
            if name == "embedding.weight" or "proj" in name or "label_head" in name:
                parameter.mul_(20)
    return model.to(dtype).eval()


def slowly(x: Tensor, real: Tensor, pool: str) -> Tensor:
    """Pooling by its definition, a row at a time."""
    rows = [
        [v for v, there in zip(row, kept, strict=True) if there]
        for row, kept in zip(x, real, strict=True)
    ]
    return torch.stack([row[-1] if pool == "last" else sum(row) / len(row) for row in rows])


@pytest.mark.parametrize("pool", ["mean", "last"])
def test_pooling_is_that_of_the_real_positions_whatever_stands_at_the_others(
    pool: Any, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyena.model.label_head._SLICE", 3)
    x = torch.randn(4, 8, 5, generator=generator, dtype=torch.float64)
    real = torch.zeros(4, 8, dtype=torch.bool)
    for row, (first, last) in enumerate([(0, 8), (1, 4), (7, 8), (2, 7)]):
        real[row, first:last] = True
    x[~real] = float("nan")
    torch.testing.assert_close(pooled(x, real, pool), slowly(x, real, pool), rtol=1e-12, atol=0)


@pytest.mark.parametrize("labels", [CLASSES, POSITIONS, NUMBERS], ids=lambda x: x.task)
@pytest.mark.parametrize("settings", [{}, {"positions": "learned"}, {"tied": False}], ids=str)
def test_a_padded_row_has_what_it_has_alone(labels: Labels, settings: dict[str, Any]) -> None:
    model, lengths = build(labels, **settings), [7, 2, 24, 13]
    ids = torch.randint(1, 32, (4, 24), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        together = label_outputs(model, ids, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            alone = label_outputs(model, ids[row : row + 1, :length], torch.tensor([length]))[0]
            found = together[row, :length] if labels is POSITIONS else together[row]
            torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("begin", [True, False])
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_the_head_reads_what_the_head_of_the_language_model_reads(pool: Any, begin: bool) -> None:
    model = build(Labels("classification", ("a", "b"), pool, begin))
    ids = torch.randint(0, 32, (1, 9), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x = hidden(model, ids)[0, 1 if begin else 0 :]
        linear = model.label_head.linear
        expected = (x[-1] if pool == "last" else x.mean(0)) @ linear.weight.T + linear.bias
        found = label_outputs(model, ids, torch.tensor([9]))[0]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_what_is_nothing_but_padding_gets_no_gradient() -> None:
    model = build(CLASSES).float().train()
    ids = torch.randint(1, 32, (2, 24), generator=torch.Generator().manual_seed(2))
    ids[0, 5:] = 0  # a token that no row has
    label_outputs(model, ids, torch.tensor([5, 24])).sum().backward()
    grad = model.embedding.weight.grad
    assert grad is not None
    assert torch.equal(grad[0], torch.zeros(8))
    assert grad[ids[0, 0]].norm() > 1e-6


def test_checkpointed_activations_change_no_gradient() -> None:
    ids = torch.randint(0, 32, (2, 24), generator=torch.Generator().manual_seed(2))
    grads = []
    for recomputed in (False, True):
        model = build(POSITIONS).train()
        model.activation_checkpointing = recomputed
        label_outputs(model, ids, torch.tensor([20, 24])).square().sum().backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, rtol=1e-9, atol=1e-9)


def test_the_head_computes_in_float32_under_autocast(generator: torch.Generator) -> None:
    head = LabelHead(64, NUMBERS, generator=generator)
    x, real = torch.randn(2, 7, 64, generator=generator), torch.ones(2, 7, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(x, real)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, head(x, real), rtol=0, atol=0)


def test_a_head_draws_from_its_generator_alone() -> None:
    before = torch.get_rng_state()
    heads = [LabelHead(8, CLASSES, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0].linear.weight, heads[1].linear.weight)
    assert torch.equal(heads[0].linear.bias, torch.zeros(3))


@pytest.mark.parametrize("labels", [CLASSES, POSITIONS, NUMBERS], ids=lambda x: x.task)
def test_a_saved_model_has_its_head(labels: Labels, tmp_path: Path) -> None:
    model = build(labels, dtype=torch.float32)
    model.save(tmp_path)
    for device in ("cpu", "meta"):
        loaded = hyena.load(tmp_path, device=device)
        assert loaded.label_head is not None
        assert loaded.label_head.labels == labels
    loaded = hyena.load(tmp_path)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    ids = torch.randint(0, 32, (1, 9))
    with torch.no_grad():
        expected = label_outputs(model, ids, torch.tensor([9]))
        torch.testing.assert_close(label_outputs(loaded, ids, torch.tensor([9])), expected)
        torch.testing.assert_close(loaded(ids), model(ids))  # it is a language model as ever


def test_a_model_without_a_head_says_so(tmp_path: Path) -> None:
    model = build(CLASSES)
    model.label_head = None
    model.save(tmp_path)
    assert "labels" not in json.loads((tmp_path / "config.json").read_bytes())
    loaded = hyena.load(tmp_path)
    assert loaded.label_head is None
    with pytest.raises(ValueError, match="the model has no head for labels; train one with hyena"):
        label_outputs(loaded, torch.zeros(1, 3, dtype=torch.int64), torch.tensor([3]))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([3]), r"expected lengths \(2,\) from 2 to 5, integers on cpu, got tensor"),
        (torch.tensor([3, 6]), "from 2 to 5"),
        (torch.tensor([3, 1]), "from 2 to 5"),
        (torch.tensor([3.0, 4.0]), "integers on cpu"),
        (torch.tensor([[3, 4]]), r"expected lengths \(2,\)"),
        (torch.tensor([3, 4], device="meta"), "integers on cpu"),
    ],
)
def test_lengths_that_are_not_of_the_rows_are_refused(lengths: Tensor, message: str) -> None:
    ids = torch.zeros(2, 5, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"^label_outputs: .*{message}"):
        label_outputs(build(CLASSES), ids, lengths)
    without = Labels("classification", ("a", "b"), begin=False)
    label_outputs(build(without), ids, torch.tensor([1, 5], dtype=torch.int32))
    with pytest.raises(TypeError, match="label_outputs: expected a tensor as lengths"):
        label_outputs(build(CLASSES), ids, [3, 4])  # type: ignore[arg-type]


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    build(CLASSES).save(tmp_path)
    (tmp_path / "SHA256SUMS").unlink()
    file = tmp_path / "config.json"
    whole = json.loads(file.read_bytes())
    for change, message in (
        ({"task": "x"}, "task: expected"),
        ({"names": ["a"]}, "expected two classes or more, each once, got a"),
        ({"names": ["a", "b"]}, r"expected label_head.linear.weight \(2, 8\), got \(3, 8\)"),
        ({"pool": None}, "pool: expected"),
    ):
        file.write_text(json.dumps({**whole, "labels": {**whole["labels"], **change}}))
        with pytest.raises(ValueError, match=message) as caught:
            hyena.load(tmp_path)
        assert "\n" not in str(caught.value)
    file.write_text(json.dumps({name: x for name, x in whole.items() if name != "labels"}))
    with pytest.raises(ValueError, match=r"unknown label_head\.linear\.bias"):
        hyena.load(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("classification", ("a",)), "expected two classes or more, each once, got a"),
        (("classification", ("a", "b"), "max"), "labels: expected pool of mean, last, got 'max'"),
        (("ranking", ("a", "b")), "labels: expected task of classification, regression, token-"),
        (("classification", ("a", "b", "a")), "each once, got a, b, a"),
        (("regression", ()), "expected targets of different names, got none"),
        (("regression", ("x",)), r"expected 1 finite means and positive deviations, got \(\)"),
        (("regression", ("x",), "mean", True, (0.0,), (0.0,)), "positive deviations"),
        (("classification", ("a", "b"), "mean", True, (0.0,), (1.0,)), "expected 0 finite"),
    ],
)
def test_labels_that_cannot_be_are_refused(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Labels(*values)


def test_a_distilled_model_keeps_its_head() -> None:
    model = build(CLASSES, dtype=torch.float32, mixers="hyena")
    found = distill(model, state=4).model
    assert found.label_head is not None
    assert found.label_head.labels == CLASSES
    assert torch.equal(found.label_head.linear.weight, model.label_head.linear.weight)
