"""Each target of a step counts the same, however many of a window are masked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tensors, tiny_config
from torch.nn import functional as F

from hyena.arguments import IGNORE
from hyena.data import PrepareConfig, prepare
from hyena.model import LanguageModel
from hyena.training import EvaluationConfig, TrainConfig, read_metrics, train
from hyena.training.run import NextToken


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DNA of which some windows are a repeat and others are none."""
    folder = tmp_path_factory.mktemp("masked")
    draw = torch.Generator().manual_seed(0)
    letters = torch.randint(4, (20, 90), generator=draw).tolist()
    records = ["".join("ACGT"[i] for i in row) for row in letters]
    lines = (f">{i}\n{text[:40].lower()}{text[40:]}\n" for i, text in enumerate(records))
    (folder / "g.fa").write_text("".join(lines))
    config = PrepareConfig(
        folder / "g.fa",
        folder / "data",
        tokenizer="hyenadna",
        soft_masked="mask",
        validation=0.4,
        test=0.0,
    )
    return prepare(config).directory


def config_of(data: Path, out: Path, **changes: Any) -> TrainConfig:
    return tiny_config(data, out, model={"vocab_size": 12}, precision="64", steps=1, **changes)


def test_the_loss_of_a_step_is_the_mean_over_its_targets(masked: Path, tmp_path: Path) -> None:
    model = LanguageModel(config_of(masked, tmp_path).model, dtype=torch.float64)
    for step in range(5):
        found = []
        for world, accumulate in ((1, 1), (1, 4), (2, 1), (2, 2), (4, 1)):
            objective = NextToken(config_of(masked, tmp_path, accumulate=accumulate))
            parts = [part for rank in range(world) for part in objective.parts(step, rank, world)]
            assert len(parts) == world * accumulate
            losses = [objective.loss(model, part, torch.device("cpu")) for part in parts]
            found.append(sum(losses, torch.zeros(())) / world)
        (whole,) = NextToken(config_of(masked, tmp_path)).parts(step, 0, 1)
        counts = (whole.windows.targets != IGNORE).sum(1)
        logits = model(whole.windows.inputs, document_ids=whole.windows.document_ids)
        expected = F.cross_entropy(logits.flatten(0, 1), whole.windows.targets.flatten())
        torch.testing.assert_close(torch.stack(found), expected.expand(5), rtol=1e-12, atol=0)
        assert counts.min() < counts.max()


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_give_the_same_gradient_and_validation(
    accumulate: int, masked: Path, tmp_path: Path
) -> None:
    found = {}
    for parts in (1, accumulate):
        # Those of an evaluation are as large as micro batches.
        evaluation = EvaluationConfig(every=1, batches=2 * parts)
        config = config_of(masked, tmp_path / str(parts), accumulate=parts, evaluation=evaluation)
        checkpoint = train(config).checkpoint
        (record,) = read_metrics(config.out / "metrics.jsonl")
        found[parts] = tensors(checkpoint), record
    (whole, record), (other, again) = found.values()
    for name in ("loss", "validation_loss", "grad_norm"):
        assert again[name] == pytest.approx(record[name], rel=1e-12), name
    for name in (name for name in whole if name.endswith(".exp_avg")):
        torch.testing.assert_close(other[name], whole[name], rtol=1e-10, atol=1e-15)
