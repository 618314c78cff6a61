"""`hyena distill`, from a run to a model that generates."""

import json
import re
from pathlib import Path

import pytest

import hyena
from hyena.cli import main
from hyena.model import FilterConfig, LanguageModel, ModelConfig

Output = pytest.CaptureFixture[str]
MODEL = ["--model.width=8", "--model.layers=1", "--model.max_length=48", "--batch=2", "--steps=2"]
NEVER = ["--evaluation.every=0", "--checkpoint.every=0"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with token files in ``data`` and a finished run in ``run``."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "texts").mkdir()
    for i in range(6):
        text = f"Speech number {i}. " + "The state of the union is strong. " * 10
        (folder / "texts" / f"{i}.txt").write_text(text)
    split = ["--validation=0.2", "--test=0.2"]
    assert main(["prepare", f"{folder}/texts", "--out", f"{folder}/data", *split]) == 0
    words = ["train", "--data", f"{folder}/data", "--out", f"{folder}/run", *MODEL, *NEVER]
    assert main(words) == 0
    return folder


def test_a_run_becomes_a_model_of_constant_state(
    work: Path, tmp_path: Path, capsys: Output
) -> None:
    capsys.readouterr()
    out = tmp_path / "small"
    assert main(["distill", f"{work}/run", "--state=6", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^state 6 in each channel", text)
    assert re.search(r"^ +0 +6 +6 +[\d.e-]+  [\d.e-]+$", text, flags=re.MULTILINE)
    assert "state of generation after 48 tokens: 96 numbers a sequence, before " in text
    assert re.search(r"^logits: relative error [\d.e-]+ on .*data \(validation\)$", text, re.M)
    assert re.search(
        r"^bits per byte: [\d.]+, before [\d.]+ \([+-][\d.]+\) on 1 documents", text, re.M
    )
    report = json.loads((out / "distillation.json").read_text())
    assert report["state"] == 6
    assert report["tolerance"] is None
    [layer] = report["layers"]
    assert layer["order"] == [6] * 8
    assert len(layer["error"]) == len(layer["least_error"]) == 8
    assert (out / "hankel.png").read_bytes()[:4] == b"\x89PNG"
    model = hyena.load(out)
    assert model.config.filter == FilterConfig(kind="s4d", state=6)
    for words in (
        ["evaluate", str(out), "--data", f"{work}/data"],
        ["generate", str(out), "--prompt=The", "--max_new_tokens=60"],  # beyond max_length
    ):
        assert main(words) == 0
    bits = re.search(r"bits per byte +([\d.]+)", capsys.readouterr().out)
    assert bits is not None
    assert float(bits[1]) == pytest.approx(report["bits_per_byte"], abs=1e-4)


def test_filters_that_resist_are_named(work: Path, tmp_path: Path, capsys: Output) -> None:
    words = ["--tolerance=1e-4", "--max_state=4", "--documents=1", f"--data={work}/data"]
    assert main(["distill", f"{work}/run", *words, "--out", str(tmp_path / "out")]) == 0
    line = r"8 filters, of layers 0, are beyond the tolerance of 0.0001, the worst at [\d.e-]+: "
    assert re.search(line, capsys.readouterr().out)


def test_a_model_without_tokenizer_or_text(tmp_path: Path, capsys: Output) -> None:
    filter = FilterConfig(kind="s4d", state=4)
    LanguageModel(ModelConfig(width=8, layers=1, max_length=40, filter=filter)).save(tmp_path / "a")
    out = str(tmp_path / "b")
    assert main(["distill", str(tmp_path / "a"), "--tolerance=1e-3", "--out", out]) == 0
    assert "on random tokens; for text, give --data" in capsys.readouterr().out
    assert main(["distill", str(tmp_path / "a"), "--out", out]) == 1
    assert capsys.readouterr().err == (
        f"error: {out} is there already; give a new or empty folder to --out\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--state=5"], "an order of 5 was asked for"),
        (["--tolerance=0"], "distill: expected a tolerance above 0"),
        (["--documents=0"], "documents is 0; it must be at least 1"),
        (["--max_state=7"], "distill: expected an even largest state ≥ 2, got 7"),
    ],
)
def test_mistakes_are_one_line(
    work: Path, tmp_path: Path, words: list[str], message: str, capsys: Output
) -> None:
    out = tmp_path / "out"
    assert main(["distill", f"{work}/run", *words, "--out", str(out)]) != 0
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not out.exists()
