"""What a run does and writes when nothing goes wrong."""

import json
import math
import sys
import types
from dataclasses import replace

import pytest
import torch
import yaml
from safetensors import safe_open
from tiny_runs import MakeConfig, differing, tensors
from torch import Tensor

import hyena
from hyena.data import load_tokenizer
from hyena.files.records import from_plain
from hyena.model import LanguageModel
from hyena.training import (
    CheckpointConfig,
    EvaluationConfig,
    TrainConfig,
    list_checkpoints,
    read_metrics,
    read_training_state,
    run,
    train,
)
from hyena.training.device import check_device


def test_a_checkpoint_is_a_model_with_its_tokenizer_and_configuration(make: MakeConfig) -> None:
    config = make()
    result = train(config)
    assert (result.step, result.steps, result.signal) == (6, 6, 0)
    assert result.checkpoint == config.out / "checkpoints" / "step-00000006"
    model = hyena.load(result.checkpoint)
    ids = torch.from_numpy(load_tokenizer(result.checkpoint).encode("a bc def"))
    assert model(ids[None]).shape == (1, 8, 257)
    state = read_training_state(result.checkpoint)
    assert (state.step, state.tokens) == (6, 6 * 4 * 16)
    saved = yaml.safe_load((result.checkpoint / "train.yaml").read_text())
    assert from_plain(TrainConfig, saved) == config
    assert saved == yaml.safe_load((config.out / "train.yaml").read_text())


def test_nothing_written_is_a_pickle(make: MakeConfig) -> None:
    config = make()
    train(config)
    written = [path for path in config.out.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} <= {".safetensors", ".json", ".jsonl", ".yaml", ""}
    assert not any(path.read_bytes().startswith((b"\x80", b"PK")) for path in written)


def test_metrics(make: MakeConfig) -> None:
    config = make(log_every=2)
    train(config)
    lines = (config.out / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == read_metrics(config.out / "metrics.jsonl")
    # Every second step, and the evaluations at 3 and 6.
    assert [record["step"] for record in records] == [2, 3, 4, 6]
    assert ["validation_loss" in record for record in records] == [False, True, False, True]
    for record in records:
        assert record.keys() >= {"step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s"}
        assert record["tokens"] == record["step"] * 4 * 16
        assert all(math.isfinite(value) for value in record.values())


def test_tensorboard_gets_the_same_figures(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder == str(config.out / "tensorboard")
            assert purge_step == 1

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            written.append(("closed", 0, 0))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    config = make(tensorboard=True)
    train(config)
    assert written.pop() == ("closed", 0, 0)
    assert written == [
        (name, value, record["step"])
        for record in read_metrics(config.out / "metrics.jsonl")
        for name, value in record.items()
        if name != "step"
    ]


def test_training_lowers_the_validation_loss(make: MakeConfig) -> None:
    config = make(steps=40, evaluation=EvaluationConfig(every=20, batches=2))
    train(config)
    losses = [r["validation_loss"] for r in read_metrics(config.out / "metrics.jsonl")[19::20]]
    assert losses[1] < losses[0] - 0.1 < math.log(257)


def test_the_newest_and_the_best_checkpoints_stay(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 1.0, 3.0, 2.0, 4.0, 6.0])
    monkeypatch.setattr(run, "mean_loss", lambda *_: next(losses))
    config = make(
        evaluation=EvaluationConfig(every=1, batches=1), checkpoint=CheckpointConfig(every=1)
    )
    train(config)
    folder = config.out / "checkpoints"
    names = [path.name for path in list_checkpoints(folder)]
    assert names == ["step-00000002", "step-00000005", "step-00000006"]
    best = json.loads((folder / "best.json").read_text())
    assert best == {"checkpoint": "step-00000002", "step": 2, "validation_loss": 1.0}
    for file in folder.glob("*/*.safetensors"):  # without which accelerate refuses them
        with safe_open(file, framework="pt") as weights:
            assert weights.metadata() == {"format": "pt"}


def test_without_evaluation_there_is_no_best(make: MakeConfig) -> None:
    config = make(evaluation=EvaluationConfig(every=0))
    train(config)
    assert not (config.out / "checkpoints" / "best.json").exists()
    assert not any("validation_loss" in r for r in read_metrics(config.out / "metrics.jsonl"))


def test_evaluation_changes_nothing(make: MakeConfig) -> None:
    dropout = {"dropout": 0.2}
    often = train(make("often", model=dropout, evaluation=EvaluationConfig(every=1, batches=1)))
    never = train(make("never", model=dropout, evaluation=EvaluationConfig(every=0)))
    assert differing(often.checkpoint, never.checkpoint) == []


def test_the_seed_decides_everything(make: MakeConfig) -> None:
    dropout = {"dropout": 0.2}
    torch.manual_seed(1)
    first = train(make("first", model=dropout))
    torch.manual_seed(2)
    second = train(make("second", model=dropout))
    other = train(make("other", model=dropout, seed=1))
    assert differing(first.checkpoint, second.checkpoint) == []
    assert differing(first.checkpoint, other.checkpoint) != []


def test_the_global_random_state_is_left_alone(make: MakeConfig) -> None:
    before = torch.get_rng_state()
    train(make(model={"dropout": 0.2}))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("precision", "bound"), [("32", 1e-5), ("64", 1e-13)])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_micro_batches_give_the_same_gradient(
    make: MakeConfig, precision: str, bound: float, accumulate: int
) -> None:
    # After one step the first moment is a tenth of the gradient.
    whole = tensors(train(make("whole", steps=1, precision=precision)).checkpoint)
    parts = tensors(
        train(make("parts", steps=1, precision=precision, accumulate=accumulate)).checkpoint
    )
    moments = [name for name in whole if name.endswith(".exp_avg")]
    assert moments
    for name in moments:
        error = (whole[name] - parts[name]).norm() / whole[name].norm().clamp_min(1e-6)
        assert error < bound, name


def test_activation_checkpointing_changes_nothing(make: MakeConfig) -> None:
    plain = train(make("plain", model={"dropout": 0.2}))
    again = train(make("again", model={"dropout": 0.2}, activation_checkpointing=True))
    left, right = tensors(plain.checkpoint), tensors(again.checkpoint)
    for name, value in left.items():
        torch.testing.assert_close(right[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("32", torch.float32), ("64", torch.float64), ("bf16-mixed", torch.float32)],
)
def test_precision(make: MakeConfig, precision: str, dtype: torch.dtype) -> None:
    config = make(precision=precision)
    checkpoint = train(config).checkpoint
    assert {t.dtype for name, t in tensors(checkpoint).items() if "exp_avg" in name} == {dtype}
    assert {p.dtype for p in hyena.load(checkpoint).parameters()} == {dtype}
    assert len(read_metrics(config.out / "metrics.jsonl")) == 6


def test_float64_is_refused_on_mps() -> None:
    with pytest.raises(ValueError, match=r'precision "64" was asked for on MPS, which has no'):
        check_device("64", "mps")
    check_device("32", "mps")
    check_device("64", "cpu")


def test_clipping_bounds_the_update(make: MakeConfig) -> None:
    free = train(make("free", steps=1, clip=None))
    tight = train(make("tight", steps=1, clip=1e-3))
    total = {
        path: math.sqrt(
            sum(
                float(t.square().sum())
                for name, t in tensors(path).items()
                if name.endswith(".exp_avg")
            )
        )
        for path in (free.checkpoint, tight.checkpoint)
    }
    assert total[tight.checkpoint] == pytest.approx(1e-4, rel=1e-3)  # a tenth of the clipped norm
    norm = read_metrics(free.checkpoint.parents[1] / "metrics.jsonl")[0]["grad_norm"]
    assert total[free.checkpoint] == pytest.approx(norm / 10, rel=1e-4)


def given_document_ids(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """The document_ids that the model is called with in one step."""
    seen: list[Tensor | None] = []
    forward = LanguageModel.forward

    def spy(self: LanguageModel, ids: Tensor, **arguments: Tensor | None) -> Tensor:
        seen.append(arguments["document_ids"])
        return forward(self, ids, **arguments)

    monkeypatch.setattr(LanguageModel, "forward", spy)
    train(replace(config, steps=1, evaluation=EvaluationConfig(every=0)))
    return seen


def test_windows_carry_their_documents(make: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    (ids,) = given_document_ids(make(batch=16), monkeypatch)
    assert ids is not None
    assert ids.shape == (16, 16)
    assert ids.max() > 0


def test_windows_carry_no_documents_when_told_to_cross_them(
    make: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert given_document_ids(make(batch=16, cross_documents=True), monkeypatch) == [None]


def test_no_logits_are_made(make: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(LanguageModel, "_head")
    assert train(make()).step == 6
