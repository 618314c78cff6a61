"""`hyena distill`, from a run to a model that generates."""

import errno
import io
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from finished_run import finished_run

import hyena
from hyena.cli import main
from hyena.files import digests
from hyena.model import FilterConfig, LanguageModel, ModelConfig, saved

Output = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
MODEL = ["--model.width=8", "--model.layers=1", "--model.max_length=48", "--batch=2", "--steps=2"]
NEVER = ["--evaluation.every=0", "--checkpoint.every=0"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("work"), *MODEL, *NEVER)


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
        r"^bits per byte: [\d.]+, before [\d.]+ \([+-][\d.]+\) on 1 document, ", text, re.M
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
    line = r"8 filters, of layer 0, are beyond the tolerance of 0.0001, the worst at [\d.e-]+: "
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


def test_rows_without_text_are_told(work: Path, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text('{"text": "All is well."}\n{"other": 1}\n{"text": 2}\n')
    words = ["--state=4", f"--data={file}", "--out", str(tmp_path / "out")]
    assert main(["distill", f"{work}/run", *words]) == 0
    note = rf"2 rows hold no text where some was expected, the first {file} line 2: no field 'text'"
    assert re.search(rf"^  note: {note}", capsys.readouterr().out, flags=re.MULTILINE)


def test_every_file_is_in_the_list_of_digests(work: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["distill", f"{work}/run", "--state=4", "--documents=1", "--out", str(out)]) == 0
    listed = (out / "SHA256SUMS").read_text().split()[1::2]
    assert listed == [name for name in files_of(out) if name != "SHA256SUMS"]
    digests.check(out, advice="do")


@pytest.mark.parametrize(
    "words", [["--model.positions=learned"], ["--model.length_policy=interpolate"]]
)
def test_the_batch_changes_nothing_but_the_speed(
    work: Path, tmp_path: Path, words: list[str]
) -> None:
    """Nor is it too large by itself where rows of different lengths cannot run together."""
    run = f"{tmp_path}/run"
    sizes = ["--model.width=8", "--model.layers=1", "--model.max_length=48", "--batch=2"]
    words = [*sizes, *words, "--steps=1", *NEVER]
    assert main(["train", "--data", f"{work}/data", "--out", run, *words]) == 0
    found = []
    for i, batch in enumerate(([], ["--batch=1"])):
        out = tmp_path / f"out{i}"
        words = ["--data", f"{work}/texts", "--state=2", *batch]
        assert main(["distill", run, *words, "--out", str(out)]) == 0
        found.append(json.loads((out / "distillation.json").read_text()))
    for name in ("bits_per_byte", "bits_per_byte_before", "logit_error"):
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-6), name


def files_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data=absent"], "source 'absent' was asked for, but there is no such file or folder"),
        (["--data={work}/late"], r".*1\.txt is not UTF-8 text"),
        (["--data={work}/run/config.yaml", "--tokenizer=absent"], "tokenizer 'absent' was asked"),
        (["--length=49"], "distill: 49 lags exceed max_length 48, where the filters end; give no"),
        (["--state=4", "--tolerance=0.1"], "state and tolerance were both given, but a state says"),
        (["--state=4", "--max_state=8"], "state and max_state were both given, but a state says"),
        (["--state=5"], "an order of 5 was asked for"),
        (["--tolerance=0"], "distill: expected a tolerance above 0"),
        (["--documents=0"], "documents: expected at least 1, got 0"),
        (["--max_state=7"], "distill: expected an even largest state ≥ 2, got 7"),
        (["--state=26"], "an order of 26 was asked for, but filters of 48 taps have even orders f"),
    ],
)
def test_everything_is_checked_before_filters_are_fitted(
    work: Path, tmp_path: Path, words: list[str], message: str, capsys: Output, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("hyena.cli.distill.distill", lambda *_, **__: pytest.fail("it fits"))
    late = work / "late"
    late.mkdir(exist_ok=True)
    (late / "0.txt").write_text("All is well.")
    (late / "1.txt").write_bytes("déjà vu".encode("latin-1"))  # known after the first is read
    words = [word.format(work=work) for word in words]
    assert main(["distill", f"{work}/run", *words, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert re.match(f"error: {message}", error)
    assert error.count("\n") == 1
    assert files_of(tmp_path) == []


def test_a_terminal_shows_how_far_it_has_come(
    work: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr", terminal)
    words = ["--tolerance=1e-3", "--documents=1", "--out", str(tmp_path / "out")]
    assert main(["distill", f"{work}/run", *words]) == 0
    assert re.search(r"8 filters .*100%", terminal.getvalue())


def test_matplotlib_is_missed_before_filters_are_fitted(
    work: Path, tmp_path: Path, capsys: Output, monkeypatch: Patch
) -> None:
    monkeypatch.setattr("hyena.cli.distill.distill", lambda *_, **__: pytest.fail("it fits"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["distill", f"{work}/run", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err.startswith("error: drawing needs matplotlib: pip install")


@pytest.mark.parametrize("problem", [OSError("full"), KeyboardInterrupt()])
@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_no_half_made_folder(
    problem: BaseException, there: bool, work: Path, tmp_path: Path, monkeypatch: Patch
) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
    before = files_of(tmp_path)

    def draw(*_: Any, **__: Any) -> None:
        assert files_of(out) == []  # the model is saved, but not there
        raise problem

    monkeypatch.setattr("hyena.cli.distill.draw_distillation", draw)
    assert main(["distill", f"{work}/run", "--state=2", "--out", str(out)]) != 0
    assert files_of(tmp_path) == before
    monkeypatch.undo()
    assert main(["distill", f"{work}/run", "--state=2", "--out", str(out)]) == 0
    names = ["config.json", "distillation.json", "hankel.png", "model.safetensors"]
    assert files_of(out) == ["SHA256SUMS", *names, "tokenizer.hyena.json"]
    assert files_of(tmp_path) == ["out", *(f"out/{name}" for name in files_of(out))]


def test_what_comes_into_the_folder_meanwhile_is_not_replaced(
    work: Path, tmp_path: Path, capsys: Output, monkeypatch: Patch
) -> None:
    def draw(*_: Any, **__: Any) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out/mine").write_text("here")

    monkeypatch.setattr("hyena.cli.distill.draw_distillation", draw)
    assert main(["distill", f"{work}/run", "--state=2", f"--out={tmp_path}/out"]) == 1
    assert "out is there already; give a new or empty folder to --out" in capsys.readouterr().err
    assert files_of(tmp_path) == ["out", "out/mine"]


def test_data_of_the_run_that_is_not_found_is_named(
    work: Path, tmp_path: Path, capsys: Output, monkeypatch: Patch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/0.txt").write_text("The state of the union is strong. " * 20)
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "data", "--out", "tokens", "--validation=0", "--test=0"]) == 0
    assert main(["train", "--data=tokens", "--out=run", *MODEL, *NEVER]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    capsys.readouterr()
    assert main(["distill", f"{tmp_path}/run", "--state=2", "--out=small"]) == 0
    out, err = capsys.readouterr()
    assert err == (
        f"note: the run was trained on tokens, which is not in {tmp_path}/elsewhere; the models "
        "are compared on random tokens. For held-out text, give --data\n"
    )
    assert "on random tokens; for text, give --data" in out
    words = ["--data=../tokens", "--split=train", "--out=other"]
    assert main(["distill", f"{tmp_path}/run", "--state=2", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "on ../tokens (train)" in out


def test_longer_filters_by_the_length_policy(work: Path, tmp_path: Path) -> None:
    words = ["--length=60", "--length_policy=extrapolate", "--state=4", "--documents=1"]
    assert main(["distill", f"{work}/run", *words, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/distillation.json").read_text())
    assert report["length"] == 60


def test_a_disk_that_fills_up_names_the_folder_that_was_asked_for(
    work: Path, tmp_path: Path, capsys: Output, monkeypatch: Patch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    line = (
        f"cannot write {tmp_path}/out: No space left on device; it is as it was before. Free "
        "space or choose another folder"
    )
    words = ["distill", f"{work}/run", "--state=2", f"--out={tmp_path}/out"]
    for place, name in ((saved, "save_file"), (digests, "complete")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, full)
            capsys.readouterr()
            assert main(words) == 1
        assert f"error: {line}\n" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
