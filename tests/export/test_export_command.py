"""`hyena export`."""

import json
import math
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from comparison import assert_close
from small_exports import TOLERANCE, model_of, tokens

import hyena
from hyena.cli import main
from hyena.data import load_tokenizer
from hyena.export.parity import onnx_session
from hyena.model.label_head import Labels
from hyena.model.label_outputs import label_outputs


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a head for labels and a tokenizer, whose state is of one size."""
    folder = tmp_path_factory.mktemp("saved")
    model = model_of(
        "hyena-se",
        layers=1,
        max_length=40,
        vocab_size=257,
        labels=Labels("classification", ("no", "yes")),
    )
    model.save(folder)
    load_tokenizer("bytes").save(folder)
    return folder


def test_a_folder_has_all_that_a_program_needs(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(saved), str(out)]) == 0
    model = hyena.load(saved)
    description = json.loads((out / "export.json").read_text())
    error = description.pop("relative_error")
    assert 0 < error < TOLERANCE
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f"{out}/model.pt2: 0.")
    assert printed[1] == f"relative error on random tokens, length 21, 40: {error:.1e}"
    assert description == {
        "format_version": 1,
        "kind": "hyena export",
        "hyena": hyena.__version__,
        "to": "torch",
        "file": "model.pt2",
        "output": "labels",
        "length": None,
        "max_length": 40,
        "vocab_size": 257,
        "labels": {
            "task": "classification",
            "names": ["no", "yes"],
            "pool": "mean",
            "begin": True,
            "means": [],
            "deviations": [],
            "sequence": "sequence",
            "columns": ["label"],
        },
    }
    assert load_tokenizer(out).fingerprint == load_tokenizer("bytes").fingerprint
    names = {"model.pt2", "export.json", "SHA256SUMS", "tokenizer.hyena.json"}
    assert {file.name for file in out.iterdir()} == names
    run = torch.export.load(out / "model.pt2").module()
    ids, lengths = tokens(3, 17), torch.tensor([2, 9, 17])
    with torch.no_grad():
        expected = label_outputs(model, ids, lengths)
        assert_close(run(ids, lengths), expected, TOLERANCE)


def test_a_file_of_one_token_has_labels_if_none_begins_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for begin in (False, True):
        labels = Labels("classification", ("no", "yes"), begin=begin)
        model_of("hyena-se", layers=1, max_length=40, labels=labels).save(tmp_path / "one")
        out = tmp_path / f"out-{begin}"
        words = ["export", str(tmp_path / "one"), str(out), "--length", "1"]
        assert main(words) == (1 if begin else 0)
        said = capsys.readouterr()
        if begin:
            assert said.err == (
                "error: to_program: labels are read after the token that begins a sequence, so "
                "that there are none of 1 token; give a length from 2 on\n"
            )
            assert not out.exists()
        else:
            assert "relative error on random tokens, length 1: " in said.out


@pytest.mark.parametrize("factor", [1.01, math.nan])
def test_a_file_that_says_something_else_is_not_kept(
    factor: float,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, out = hyena.load(saved), tmp_path / "out"

    def other(path: Path, to: str) -> Callable[..., torch.Tensor]:
        return lambda ids, lengths: factor * label_outputs(model, ids, lengths)

    command = import_module("hyena.cli.export")
    monkeypatch.setattr(command, "loaded", other)
    monkeypatch.setattr(command, "to_program", lambda *given, **options: None)
    monkeypatch.setattr(torch.export, "save", lambda program, file: file.write_text("program"))
    assert main(["export", str(saved), str(out)]) == 1
    said = capsys.readouterr().err
    error = "nan" if math.isnan(factor) else "1.0e-02"
    assert f"within 0.001 of the model, got a relative error of {error} on 21 random" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_step_is_exported(saved: Path, tmp_path: Path) -> None:
    assert main(["export", str(saved), str(tmp_path / "out"), "--to", "onnx-step"]) == 0
    description = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (description["output"], description["length"]) == ("logits", 1)
    assert 0 < description["relative_error"] < 1e-5
    session = onnx_session(tmp_path / "out" / "step.onnx")
    assert [x.name for x in session.get_inputs()] == ["input_ids", "layers.0.short", "layers.0.due"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--to", "onnx", "--kernel", "true"],
            "only --to torch leaves convolutions to it",
        ),
        (["--to", "onnx-step", "--length", "3"], "length: a step has none; leave --length out"),
        (
            ["--length", "41"],
            "expected a length up to the model's max_length 40, got 41",
        ),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str],
    message: str,
    saved: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert main(["export", str(saved), str(out), *options]) in (1, 2)
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not out.exists()


def test_a_folder_with_files_is_left_alone(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("text")
    assert main(["export", str(saved), str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]
