"""Every shipped configuration of `hyena train` takes a step, on tiny data and with a small model.

Those of `hyena tasks sweep` are tested in tests/experiments.
"""

from pathlib import Path

import pytest

import hyena
from hyena.cli import main
from hyena.training import read_metrics

FOLDER = Path(__file__).parent.parent / "configs"
CONFIGS = sorted(FOLDER.glob("*.yaml"))
SMALL = [
    *("--model.width=8", "--model.layers=2", "--model.mlp_width=8", "--model.max_length=16"),
    *("--model.filter.width=4", "--batch=4", "--accumulate=2", "--steps=1"),
    *("--schedule.warmup_steps=0", "--evaluation.batches=1", "--accelerator=cpu"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Token files of each tokenizer."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "texts").mkdir()
    for i in range(4):
        (folder / "texts" / f"{i}.txt").write_text(f"Text number {i}. " + "It goes on. " * 40)
    for name in ("bytes", "gpt2"):
        words = ["prepare", f"{folder}/texts", "--out", f"{folder}/{name}", "--tokenizer", name]
        assert main([*words, "--validation=0.25", "--test=0"]) == 0
    return folder


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_shipped_configuration_takes_a_step(config: Path, data: Path, tmp_path: Path) -> None:
    tokens = data / ("bytes" if config.stem == "demo" else "gpt2")
    words = ["train", "--config", str(config), f"--data={tokens}", f"--out={tmp_path}/run", *SMALL]
    assert main(words) == 0
    (record,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert record["step"] == 1
    model = hyena.load(tmp_path / "run" / "checkpoints" / "step-00000001")
    assert model.config.width == 8


def test_the_paper_s_configurations_are_its_models(capsys: pytest.CaptureFixture[str]) -> None:
    import yaml

    from hyena.files.records import from_plain
    from hyena.model import LanguageModel, ModelConfig

    counts = {
        "wikitext103": 133_029_120,
        "wikitext103-slim": 137_746_560,
        "pile": 153_700_416,
    }
    for path in CONFIGS:
        if path.stem == "demo":
            continue
        plain = yaml.safe_load(path.read_text())["model"]
        model = LanguageModel(from_plain(ModelConfig, plain, "model"), device="meta")
        # The paper counts at length 2,048; the encoding has a row a position, in each layer.
        shorter = (2048 - model.config.max_length) * 33 * model.config.layers
        assert model.parameter_count() + shorter == counts[path.stem]
