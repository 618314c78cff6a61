"""`hyena convert`: files of other programs into ours and back, with a tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer

Output = pytest.CaptureFixture[str]
GOLDEN = Path(__file__).parent.parent / "golden"
SETTINGS = ["--settings.window=true", "--settings.normalized=false", "--settings.shift=0.0"]


def released(name: str, path: Path) -> dict[str, Any]:
    """The weights of a golden file as they were released; the program's arguments."""
    with safe_open(GOLDEN / f"{name}.safetensors", framework="pt") as file:
        state = {
            key.removeprefix("state."): file.get_tensor(key)
            for key in file.keys()  # noqa: SIM118
            if key.startswith("state.")
        }
        arguments: dict[str, Any] = json.loads(file.metadata()["config"])["args"]
    save_file(state, path)
    return arguments


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    released("safari_lm_modulated", tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_a_released_model_and_the_way_back(weights: Path, tmp_path: Path, capsys: Output) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert main(["convert", str(weights), str(ours), *SETTINGS, "--dtype=float64"]) == 0
    said = capsys.readouterr()
    assert f"{ours}: " in said.out
    assert "2 layers of width 24, as files of hyena" in said.out
    assert "without a tokenizer" in said.err
    assert hyena.load(ours).embedding.weight.dtype is torch.float64
    assert main(["convert", str(ours), str(theirs), "--to=safari"]) == 0
    ids = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(hyena.load(theirs)(ids), hyena.load(ours)(ids))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{weights} {out}", "do not say window"),
        ("{weights} {there}", "is there already; give a new or empty folder"),
        ("{none} {out}", "does not exist"),
        ("{weights} {out} --tokenizer gpt2 {settings}", "gpt2 has 50257 ids, but the model in"),
        ("{weights} {out} --tokenizer bytes --to safari", "tokenizer is of models of ours"),
        ("{weights} {out} --to hyenadna-hf {settings}", "model.filter.shift is 0.0, not 0.05"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    words: str, message: str, weights: Path, tmp_path: Path, capsys: Output
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "file").write_text("x")
    names = {"weights": weights, "out": tmp_path / "out", "there": there, "none": tmp_path / "no"}
    given = words.format(**names, settings=" ".join(SETTINGS)).split()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(["convert", *given]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_tokenizer_is_saved_with_it_and_goes_along(weights: Path, tmp_path: Path) -> None:
    hyena.LanguageModel(hyena.ModelConfig(width=8, layers=1)).save(tmp_path / "plain")
    words = ["convert", f"{tmp_path}/plain", f"{tmp_path}/ours", "--tokenizer=bytes"]
    assert main(words) == 0
    assert main(["convert", f"{tmp_path}/ours", f"{tmp_path}/half", "--dtype=bfloat16"]) == 0
    for name in ("ours", "half"):
        assert load_tokenizer(tmp_path / name).name == "bytes"
        hyena.load(tmp_path / name)


def test_what_there_is_to_know_is_noted(tmp_path: Path, capsys: Output) -> None:
    arguments = released("stripedhyena2", tmp_path / "x.safetensors")
    file = tmp_path / "elsewhere.json"
    file.write_text(json.dumps({**arguments, "use_fp8_input_projections": True}))
    words = ["convert", f"{tmp_path}/x.safetensors", f"{tmp_path}/ours", "--configuration"]
    assert main([*words, str(file)]) == 0
    assert "note: these weights were trained with projections" in capsys.readouterr().err


def test_every_command_says_what_there_is_to_know_in_a_line(tmp_path: Path, capsys: Output) -> None:
    arguments = released("stripedhyena2", tmp_path / "model.safetensors")
    text = json.dumps({**arguments, "use_fp8_input_projections": True})
    (tmp_path / "config.json").write_text(text)
    assert main(["info", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("note: these weights were trained with projections in numbers of 8 bits")
    assert said.count("\n") == 1
